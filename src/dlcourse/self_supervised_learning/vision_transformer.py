"""The Vision Transformer, and images as sequences of patches: what all of chapter 120 encodes with.

Chapter: ``120_self_supervised_learning`` (every section).

Papers:
    Dosovitskiy et al. (2021), *An Image Is Worth 16x16 Words* (the model).
    Vaswani et al. (2017), *Attention Is All You Need* (attention, sine-cosine positions).
    Chen, Xie, He (2021), *An Empirical Study of Training Self-Supervised Vision Transformers*
    (two-dimensional sine-cosine positions that are not trained).

A self-supervised method looks into its encoder: it removes patches before the first block (MAE),
replaces them by a mask token (SimMIM, iBOT), or passes images of several sizes (DINO). So the
forward pass is cut into the steps that they need: ``embed_patches``, ``positions``, ``encode``.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["VisionTransformer", "patchify", "sincos_positions", "unpatchify"]

Positions = Literal["sincos", "learned"]


# --- Images as patches -----------------------------------------------------------------------


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
    rows, columns = _grid((h, w), patch_size)
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
    rows, columns = _grid((h, w), patch_size)
    if patches.dim() != 3 or patches.shape[1] != rows * columns:
        raise ValueError(
            f"an image of {h} × {w} has {rows} × {columns} patches of {patch_size} × {patch_size}: "
            f"expected (B, {rows * columns}, …), got {tuple(patches.shape)}"
        )
    channels, rest = divmod(patches.shape[2], patch_size * patch_size)
    if rest or not channels:
        raise ValueError(
            f"a patch of {patch_size} × {patch_size} pixels has {patch_size**2} numbers a channel, "
            f"and {patches.shape[2]} is no multiple of that: did you mean another patch_size?"
        )
    x = patches.reshape(-1, rows, columns, patch_size, patch_size, channels)
    x = x.permute(0, 5, 1, 3, 2, 4)  # (B, C, rows, p, columns, p)
    return x.reshape(-1, channels, h, w)


def _grid(image_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
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


# --- The model -------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) → (B, N, D). Vaswani et al. (2017), section 3.2."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, N, D / H)."""
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.num_heads, d // self.num_heads)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        y = F.scaled_dot_product_attention(q, k, v)  # softmax(q kᵀ / √(D/H)) v
        return self.proj(y.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor) -> Tensor:
        """The attention itself, which ``forward`` never holds: (B, H, N, N), rows sum to 1."""
        q, k, _ = self.split(x)
        return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): (B, N, D) → (B, N, D)."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Images (B, C, H, W) to the normalised class token (B, D).

    Args:
        image_size: side of the training images, or (H, W), in pixels. Others can be encoded
            later: the positions are then interpolated (as DINO does for its small crops).
        patch_size: side of a patch in pixels; it must divide image_size.
        in_channels: C.
        embed_dim: D, the width; a multiple of num_heads.
        depth: number of blocks.
        num_heads: attention heads a block.
        mlp_ratio: hidden width of a block's MLP over D.
        positions: "sincos" (fixed, as in MAE) or "learned" (as in ViT and DINO).
        generator: draws the initial weights; by default torch's global generator.

    The default sizes are those of ViT-Ti/16 (Touvron et al. 2021, DeiT).

    Raises ValueError when a size does not fit another one or an argument is out of range, and
    TypeError, when called, for images that are not floating point.

    Source: Dosovitskiy et al. (2021), section 3.1.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        patch_size: int,
        in_channels: int = 3,
        embed_dim: int = 192,
        depth: int = 12,
        num_heads: int = 3,
        mlp_ratio: float = 4.0,
        *,
        positions: Positions = "sincos",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} is not a multiple of {num_heads} heads")
        if positions not in get_args(Positions):
            raise ValueError(f"positions must be one of {get_args(Positions)}, got {positions!r}")
        if in_channels < 1 or depth < 1 or mlp_ratio <= 0:
            raise ValueError(
                "need in_channels >= 1, depth >= 1 and mlp_ratio > 0, "
                f"got {in_channels}, {depth} and {mlp_ratio}"
            )
        pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        self.image_size: tuple[int, int] = pair
        self.patch_size, self.in_channels, self.embed_dim = patch_size, in_channels, embed_dim
        self.grid = _grid(pair, patch_size)
        self.num_patches = self.grid[0] * self.grid[1]

        self.patch_embedding = nn.Linear(patch_size * patch_size * in_channels, embed_dim)
        self.class_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        # What stands in for a hidden patch (SimMIM, iBOT). MAE's encoder never sees one.
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        if positions == "sincos":
            self.register_buffer("position_table", sincos_positions(embed_dim, self.grid)[None])
            class_position = torch.zeros(1, 1, embed_dim)  # MAE's convention
            self.register_buffer("class_position", class_position)
        else:
            self.position_table = nn.Parameter(torch.zeros(1, self.num_patches, embed_dim))
            self.class_position = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        initialize(self, generator)

    def embed_patches(self, images: Tensor) -> Tensor:
        """Linear embedding of each patch, without its position: (B, C, H, W) → (B, N, D)."""
        check_images(images, self.in_channels)
        return self.patch_embedding(patchify(images, self.patch_size))

    def positions(self, image_size: tuple[int, int]) -> Tensor:
        """Position embeddings of the patches of an image of this size: (1, N, D).

        For another grid than the model's own they are interpolated bicubically (DINO does so).
        """
        grid = _grid(image_size, self.patch_size)
        if grid == self.grid:
            return self.position_table
        table = self.position_table.transpose(1, 2).unflatten(2, self.grid)  # (1, D, rows, columns)
        table = F.interpolate(table, size=grid, mode="bicubic", align_corners=False)
        return table.flatten(2).transpose(1, 2)

    def encode(self, tokens: Tensor) -> Tensor:
        """Class token in front, all blocks, norm: (B, N', D) → (B, 1 + N', D).

        ``tokens`` carry their positions already; any number of them may be missing.
        """
        first = (self.class_token + self.class_position).expand(len(tokens), -1, -1)
        x = torch.cat([first, tokens], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward_features(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """All tokens of the last layer: (B, C, H, W) → (B, 1 + N, D), the class token first.

        Args:
            mask: (B, N), true or 1 where a patch is hidden: its embedding is then replaced by the
                mask token, and it keeps its position. None hides nothing.

        Raises ValueError for a mask of another shape.
        """
        x = self.embed_patches(images)
        if mask is not None:
            if mask.shape != x.shape[:2]:
                raise ValueError(
                    f"the mask must be (B, N) = {tuple(x.shape[:2])}, got {tuple(mask.shape)}: "
                    "each image needs its own"
                )
            x = torch.where(mask.bool()[..., None], self.mask_token.to(x.dtype), x)
        return self.encode(x + self.positions(images.shape[-2:]))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_features(images)[:, 0]

    @torch.no_grad()
    def class_attention(self, images: Tensor) -> Tensor:
        """Attention of the last block's class token to each patch: (B, H, rows, columns).

        What it gives to the class token itself is left out, so a map sums to at most 1.
        """
        x = self.embed_patches(images) + self.positions(images.shape[-2:])
        first = (self.class_token + self.class_position).expand(len(x), -1, -1)
        x = torch.cat([first, x], 1)
        for block in self.blocks[:-1]:
            x = block(x)
        last = self.blocks[-1]
        weights = last.attention.weights(last.norm1(x))[:, :, 0, 1:]  # (B, H, N)
        return weights.unflatten(2, _grid(images.shape[-2:], self.patch_size))


def initialize(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Give a module and all in it new weights, in place.

    Linear: uniform in ±√(6 / (fan_in + fan_out)) (Glorot, Bengio 2010, equation 16), which suits
    every width; a fixed standard deviation of 0.02 is made for widths near 1000, and leaves a narrow
    encoder nearly blind to its input. Biases 0. LayerNorm: 1 and 0. Tokens, learned positions and
    prototypes (bare parameters): normal with standard deviation 0.02, cut at two of them.
    """
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if isinstance(part, nn.LayerNorm):
                nn.init.constant_(parameter, 1.0 if name == "weight" else 0.0)
            elif name == "bias":
                nn.init.zeros_(parameter)
            elif isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04, generator=generator)


def check_images(images: Tensor, channels: int) -> None:
    """Raise TypeError for images that are not floats, ValueError for another number of channels."""
    if not images.is_floating_point():
        raise TypeError(
            f"images must be floating point, got {images.dtype}: scale them first, for "
            "0 … 255 with images.float() / 255"
        )
    if images.dim() != 4 or images.shape[1] != channels:
        raise ValueError(f"images must be (B, {channels}, H, W), got {tuple(images.shape)}")
