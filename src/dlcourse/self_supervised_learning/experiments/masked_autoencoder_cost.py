"""What a training step of the masked autoencoder costs: its count, and the step to measure.

Chapter: ``120_self_supervised_learning/2_masked_autoencoders`` (the cells on cost).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from dlcourse.measure import transformer_flops
from dlcourse.self_supervised_learning.masked_autoencoders.masking import visible_count
from dlcourse.self_supervised_learning.masked_autoencoders.model import MaskedAutoencoder
from dlcourse.self_supervised_learning.vision_transformer import Block

__all__ = ["masked_autoencoder_flops", "training_step"]


def masked_autoencoder_flops(model: MaskedAutoencoder, mask_ratio: float | None = None) -> float:
    """Operations of ``model.training_loss`` for one image, forward; a step takes three times that.

    Args:
        mask_ratio: in place of the model's own; 0 counts an encoder that sees everything.
    """
    encoder, blocks = model.encoder, model.decoder_blocks
    ratio = model.mask_ratio if mask_ratio is None else mask_ratio
    n, d = encoder.num_patches, encoder.embed_dim
    visible = n if ratio == 0 else visible_count(n, ratio)
    hidden = n - visible
    pixels, wide = model.to_pixels.out_features, model.to_pixels.in_features

    flops = 2 * visible * pixels * d  # the embedding of the patches
    flops += transformer_flops(1 + visible, d, len(encoder.blocks), _mlp_ratio(encoder.blocks[0]))
    flops += 2 * (1 + visible) * d * wide  # to the decoder's width
    mlp = _mlp_ratio(blocks[0])
    flops += transformer_flops(1 + n, wide, len(blocks) - 1, mlp)
    # The last block: keys and values of all tokens, the rest for the hidden ones.
    flops += 2 * wide**2 * (2 * (1 + n) + (2 + 2 * mlp) * hidden) + 4 * hidden * (1 + n) * wide
    return flops + 2 * hidden * wide * pixels


def _mlp_ratio(block: Block) -> float:
    return block.mlp[0].out_features / block.mlp[0].in_features


def training_step(
    loss: Callable[[], Tensor],
    parameters: Iterable[nn.Parameter],
    dtype: torch.dtype | None = None,
) -> Callable[[], None]:
    """A function that takes one whole step: forward, backward, AdamW.

    Args:
        loss: computes the loss of the next batch.
        parameters: which AdamW moves; its fused form, all tensors in one kernel.
        dtype: of matrix products under autocast; None computes in the parameters' own.
    """
    parameters = [p for p in parameters if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), fused=True)
    kind = parameters[0].device.type

    def step() -> None:
        with torch.autocast(kind, dtype, enabled=dtype is not None):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
