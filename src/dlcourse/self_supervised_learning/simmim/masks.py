"""What SimMIM hides: whole square blocks of patches.

Chapter: ``120_self_supervised_learning/1c_simmim``.

Paper: Xie et al. (2022), *SimMIM: A Simple Framework for Masked Image Modeling*, section 3.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcourse.self_supervised_learning.patches import unpatchify

__all__ = ["block_mask", "hidden_blocks", "pixel_mask"]


def block_mask(
    batch_size: int,
    grid: tuple[int, int],
    scale: int,
    mask_ratio: float = 0.6,
    generator: torch.Generator | None = None,
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """Hide random square blocks, others in each image: (B, N), 1 = hidden.

    Exactly ⌈ratio · blocks⌉ blocks of each image are hidden, whole; every choice of that many is
    equally likely.

    Args:
        batch_size: B.
        grid: rows and columns of the model's patches; N is their product.
        scale: side of a block in patches: the paper's masked patch size over the model's patch
            size, 32 / 16 = 2 for ViT-B/16. It must divide both sides of the grid.
        mask_ratio: share of the blocks to hide, in (0, 1).
        generator: source of the randomness; by default torch's global generator.
        device: of the mask; by default the generator's.

    Returns:
        A float tensor of 0 and 1, patches row by row as in ``patchify``.

    Raises:
        ValueError: the blocks do not tile the grid, the ratio is out of range, or it leaves
            nothing to see.

    Source: Xie et al. (2022), section 3.2; the rounding is that of the authors' code.
    """
    rows, columns = grid
    if batch_size < 1 or scale < 1 or rows % scale or columns % scale:
        raise ValueError(
            f"blocks of {scale} × {scale} patches do not tile a grid of {rows} × {columns}: choose "
            "a mask_patch_size that is a multiple of the patch size and divides the image"
        )
    blocks = (rows // scale) * (columns // scale)
    count = hidden_blocks(blocks, mask_ratio)
    if device is None:
        device = generator.device if generator is not None else None

    # The blocks with the largest of B · blocks random numbers, image by image.
    noise = torch.rand(batch_size, blocks, generator=generator, device=device)
    hidden = noise.topk(count).indices  # (B, count)
    mask = torch.zeros_like(noise).scatter_(1, hidden, 1.0)  # (B, blocks)

    mask = mask.view(batch_size, rows // scale, columns // scale)
    mask = mask.repeat_interleave(scale, 1).repeat_interleave(scale, 2)  # (B, rows, columns)
    return mask.flatten(1)


def hidden_blocks(blocks: int, mask_ratio: float) -> int:
    """⌈ratio · blocks⌉. Raises ValueError for a ratio outside (0, 1), or when nothing is left."""
    if not 0 < mask_ratio < 1:
        raise ValueError(
            f"mask_ratio is the share of the blocks to hide, between 0 and 1: got {mask_ratio}"
        )
    count = math.ceil(mask_ratio * blocks - 1e-9)  # 0.07 · 100 is 7.000000000000001
    if count == blocks:
        raise ValueError(
            f"a ratio of {mask_ratio} hides all {blocks} blocks of an image: choose a smaller "
            "mask_ratio or mask_patch_size"
        )
    return count


def pixel_mask(mask: Tensor, patch_size: int, image_size: tuple[int, int]) -> Tensor:
    """A mask of patches as one of pixels: (B, N) → (B, 1, H, W).

    Raises ValueError when N does not belong to these sizes.
    """
    if mask.dim() != 2:
        raise ValueError(f"the mask must be (B, N), got {tuple(mask.shape)}")
    patches = mask[..., None].expand(-1, -1, patch_size * patch_size)  # (B, N, p·p)
    return unpatchify(patches, patch_size, image_size)
