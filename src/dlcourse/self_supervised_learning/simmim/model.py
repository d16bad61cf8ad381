"""SimMIM's loss and model.

Chapter: ``120_self_supervised_learning/1c_simmim``.

Paper: Xie et al. (2022), *SimMIM: A Simple Framework for Masked Image Modeling*.

The encoder sees a token for every patch. A visible patch gives its embedding, a hidden one the
mask token; both get their position. One linear layer turns each token of the last layer into the
pixels of its patch, and the loss is the mean absolute error over the hidden pixels alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcourse.self_supervised_learning.patches import patchify, unpatchify, widened
from dlcourse.self_supervised_learning.simmim.masks import block_mask, hidden_blocks, pixel_mask
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = ["SimMIM", "masked_l1", "normalize_patches"]


def masked_l1(prediction: Tensor, images: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over the hidden pixels, all channels: a scalar.

    Args:
        prediction, images: (B, C, H, W).
        mask: (B, 1, H, W), 1 = hidden (see ``pixel_mask``). One that hides nothing gives NaN, 0/0.

    Sums are float32 or wider, and so is the loss.

    Raises ValueError for other shapes.

    Source: Xie et al. (2022), equation 1.
    """
    b, c, h, w = images.shape
    if prediction.shape != images.shape or mask.shape != (b, 1, h, w):
        raise ValueError(
            f"images {tuple(images.shape)} need a prediction of that shape and a mask of "
            f"{(b, 1, h, w)}, got {tuple(prediction.shape)} and {tuple(mask.shape)}"
        )
    error = (widened(prediction) - widened(images)).abs()  # (B, C, H, W)
    hidden = mask.to(error.dtype)
    return (error * hidden).sum() / (hidden.sum() * c)


def normalize_patches(images: Tensor, patch_size: int) -> Tensor:
    """Each patch less its mean, over its standard deviation, all channels together: the same shape.

    A patch of one value becomes 0. Computed in float32 or wider, returned in the images' dtype. It
    is the target of a masked autoencoder (He et al. 2022, section 4.1); SimMIM's paper predicts the
    pixels as they are.
    """
    patches = widened(patchify(images, patch_size))  # (B, N, p·p·C)
    centred = patches - patches.mean(-1, keepdim=True)
    patches = centred / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    return unpatchify(patches.to(images.dtype), patch_size, tuple(images.shape[-2:]))


class SimMIM(nn.Module):
    """Masked image modelling: mask tokens at the encoder's input, a linear head, L1.

    Args:
        encoder: what is to be trained; it keeps its class token, which no loss asks anything of.
        mask_ratio: share of the blocks to hide, in (0, 1).
        mask_patch_size: side of a block in pixels, a multiple of the encoder's patch size that
            divides the image. By default twice the patch size: 32 for a ViT/16, as in the paper.
        norm_target: predict patches as ``normalize_patches`` gives them, in place of pixels.
        generator: draws the head's weights; by default torch's global generator.

    Raises ValueError when the blocks do not tile the image, or the ratio hides nothing or all.

    Source: Xie et al. (2022).
    """

    def __init__(
        self,
        encoder: VisionTransformer,
        mask_ratio: float = 0.6,
        mask_patch_size: int | None = None,
        *,
        norm_target: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        encoder.mask_token.requires_grad_()  # it stands in for hidden patches, and is learned
        p = encoder.patch_size
        self.mask_ratio, self.norm_target = mask_ratio, norm_target
        self.mask_patch_size = 2 * p if mask_patch_size is None else mask_patch_size
        self._scale(encoder.image_size)  # refuse now what forward would refuse
        self.head = nn.Linear(encoder.embed_dim, p * p * encoder.in_channels)
        nn.init.trunc_normal_(self.head.weight, std=0.02, a=-0.04, b=0.04, generator=generator)
        nn.init.zeros_(self.head.bias)  # so the first prediction is near 0

    def forward(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, H, W) → loss, prediction, mask.

        Args:
            mask: (B, N), 1 = hidden; by default drawn, each image its own.
            generator: of the mask, when it is drawn; on the images' device.

        Returns:
            The loss, a scalar; the prediction in the shape of the images (B, C, H, W), at visible
            patches too, where nothing was asked of it; the mask (B, N).

        Raises:
            ValueError: a given mask has another shape or hides nothing.
            TypeError: the images are not floating point.
        """
        p, size = self.encoder.patch_size, tuple(images.shape[-2:])
        if mask is None:
            grid = size[0] // p, size[1] // p
            mask = block_mask(
                images.shape[0], grid, self._scale(size), self.mask_ratio, generator,
                device=images.device,
            )  # fmt: skip
        elif not torch.compiler.is_compiling() and not mask.any():  # a graph can't look at values
            raise ValueError("the mask hides nothing, so there is nothing to predict")

        tokens = self.encoder.forward_features(images, mask)[:, 1:]  # (B, N, D)
        prediction = unpatchify(self.head(tokens), p, size)  # (B, C, H, W)
        target = normalize_patches(images, p) if self.norm_target else images
        loss = masked_l1(prediction, target, pixel_mask(mask, p, size))
        return loss, prediction, mask

    def _scale(self, image_size: tuple[int, int]) -> int:
        """Side of a block in patches. Raises ValueError when blocks do not tile the image."""
        p, block = self.encoder.patch_size, self.mask_patch_size
        if block < p or block % p or any(side % block for side in image_size):
            raise ValueError(
                f"blocks of {block} pixels do not fit patches of {p} in an image of "
                f"{image_size[0]} × {image_size[1]}: mask_patch_size must be a multiple of the "
                "patch size and divide both sides"
            )
        hidden_blocks((image_size[0] // block) * (image_size[1] // block), self.mask_ratio)
        return block // p
