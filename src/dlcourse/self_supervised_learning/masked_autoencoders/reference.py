"""The masked autoencoder's loss by loops, to be read and to be compared with.

Chapter: ``120_self_supervised_learning/2_masked_autoencoders``.

Paper: He et al. (2022), *Masked Autoencoders Are Scalable Vision Learners*, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlcourse.self_supervised_learning.masked_autoencoders.masking import visible_count
from dlcourse.self_supervised_learning.masked_autoencoders.model import EPS, MaskedAutoencoder

__all__ = ["masked_autoencoder_loss_reference"]


def masked_autoencoder_loss_reference(
    model: MaskedAutoencoder, images: Tensor, noise: Tensor
) -> Tensor:
    """The loss of ``model``, one image and one patch after another, by plain indexing.

    Args:
        images: (B, C, H, W).
        noise: (B, N): the patches of an image with the least noise stay visible.

    Source: He et al. (2022), section 3.
    """
    encoder, p = model.encoder, model.encoder.patch_size
    columns = encoder.grid[1]
    errors = []
    for image, numbers in zip(images, noise):
        patches = []
        for i in range(encoder.num_patches):
            top, left = p * (i // columns), p * (i % columns)
            patch = image[:, top : top + p, left : left + p]  # (C, p, p)
            patches.append(patch.permute(1, 2, 0).flatten())  # row, column, channel
        order = numbers.argsort().tolist()
        keep = visible_count(encoder.num_patches, model.mask_ratio)
        visible, hidden = order[:keep], order[keep:]

        places = encoder.position_table[0]
        tokens = [encoder.patch_embedding(patches[i]) + places[i] for i in visible]
        encoded = encoder.encode(torch.stack(tokens)[None])[0]  # (1 + N', D)
        encoded = model.decoder_embedding(encoded)

        sequence = [encoded[0]]  # the class token
        for i in range(encoder.num_patches):
            token = encoded[1 + visible.index(i)] if i in visible else model.mask_token[0, 0]
            sequence.append(token + model.decoder_positions[0, i])
        y = torch.stack(sequence)[None]
        for block in model.decoder_blocks:
            y = block(y)
        y = model.decoder_norm(y)[0]

        for i in hidden:
            target = patches[i]
            if model.norm_pix_loss:
                target = (target - target.mean()) / (target.var() + EPS).sqrt()
            errors.append((model.to_pixels(y[1 + i]) - target).square().mean())
    return torch.stack(errors).mean()
