"""Images as sequences of patches, and the places of the patches.

Chapter: ``120_self_supervised_learning`` (every section).

Papers:
    Dosovitskiy et al. (2021), *An Image Is Worth 16x16 Words* (patches).
    Vaswani et al. (2017), *Attention Is All You Need* (sine-cosine positions).
    Chen, Xie, He (2021), *An Empirical Study of Training Self-Supervised Vision Transformers*
    (two-dimensional sine-cosine positions that are not trained).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "check_images",
    "patch_grid",
    "patchify",
    "sincos_positions",
    "unpatchify",
    "widened",
]


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into square patches, row by row: (B, C, H, W) → (B, N, p·p·C).

    N = (H / p)·(W / p). Within a patch the order is (row, column, channel), as in MAE.

    Raises ValueError when the images have not four dimensions, or p does not divide H and W.
    """
    if images.dim() != 4:
        raise ValueError(
            f"images must be (B, C, H, W), got {tuple(images.shape)}: "
            "add the missing dimension, for one image with images[None]"
        )
    b, c, h, w = images.shape
    rows, columns = patch_grid((h, w), patch_size)
    x = images.reshape(b, c, rows, patch_size, columns, patch_size)
    x = x.permute(0, 2, 4, 3, 5, 1)  # (B, rows, columns, p, p, C)
    return x.reshape(b, rows * columns, patch_size * patch_size * c)


def unpatchify(patches: Tensor, patch_size: int, image_size: tuple[int, int]) -> Tensor:
    """Put patches back in place, the exact inverse of ``patchify``: (B, N, p·p·C) → (B, C, H, W).

    Args:
        image_size: (H, W). It must be given: N alone does not tell 2 × 8 patches from 4 × 4.

    Raises ValueError when N or the length of a patch does not belong to these sizes.
    """
    h, w = image_size
    rows, columns = patch_grid((h, w), patch_size)
    if patches.dim() != 3 or patches.shape[1] != rows * columns:
        raise ValueError(
            f"an image of {h} × {w} has {rows} × {columns} patches of {patch_size} × {patch_size}: "
            f"expected (B, {rows * columns}, …), got {tuple(patches.shape)}"
        )
    numbers = patches.shape[2]  # under torch.jit.trace a tensor, which divmod refuses
    channels = numbers // (patch_size * patch_size)
    if numbers % (patch_size * patch_size) or not channels:
        raise ValueError(
            f"a patch of {patch_size} × {patch_size} pixels has {patch_size**2} numbers a channel, "
            f"and {numbers} is no multiple of that: did you mean another patch_size?"
        )
    x = patches.reshape(-1, rows, columns, patch_size, patch_size, channels)
    x = x.permute(0, 5, 1, 3, 2, 4)  # (B, C, rows, p, columns, p)
    return x.reshape(-1, channels, h, w)


def patch_grid(image_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches. Raises ValueError when they do not tile the image."""
    h, w = image_size
    if patch_size < 1 or h < patch_size or w < patch_size or h % patch_size or w % patch_size:
        raise ValueError(
            f"patches of {patch_size} × {patch_size} do not tile an image of {h} × {w}: "
            "resize or crop the image to a multiple of patch_size"
        )
    return h // patch_size, w // patch_size


def sincos_positions(embed_dim: int, grid: tuple[int, int]) -> Tensor:
    """Sine-cosine embedding of each place of a grid of patches: (rows · columns, embed_dim).

    The first half of the features encodes the column, the second the row; each half holds the
    sines, then the cosines, of the coordinate times 10000^(−i/(D/4)), i = 0 … D/4 − 1.

    Raises ValueError when embed_dim is no multiple of 4.

    Source: Vaswani et al. (2017), section 3.5, for each of two axes (Chen, Xie, He 2021).
    """
    if embed_dim % 4:
        raise ValueError(f"embed_dim must be a multiple of 4 for two axes, got {embed_dim}")
    rows, columns = grid
    frequencies = 10000 ** (-torch.arange(embed_dim // 4, dtype=torch.float64) / (embed_dim / 4))
    y, x = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64),
        torch.arange(columns, dtype=torch.float64),
        indexing="ij",
    )
    halves = []
    for coordinate in (x, y):
        angle = coordinate.reshape(-1, 1) * frequencies  # (N, D/4)
        halves += [angle.sin(), angle.cos()]
    return torch.cat(halves, 1).float()


def widened(x: Tensor) -> Tensor:
    """``x`` in float32 where it is narrower, else as it is: for what is summed or divided.

    A float16 sum overflows above 65,504, a bfloat16 one stops growing at 256 times its terms, and
    an ε of 1e-6 is 0 in float16.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_images(images: Tensor, channels: int) -> None:
    """Raise TypeError for images that are not floats, ValueError for another number of channels."""
    if not images.is_floating_point():
        raise TypeError(
            f"images must be floating point, got {images.dtype}: scale them first, for "
            "0 … 255 with images.float() / 255"
        )
    if images.dim() != 4 or images.shape[1] != channels:
        raise ValueError(f"images must be (B, {channels}, H, W), got {tuple(images.shape)}")
