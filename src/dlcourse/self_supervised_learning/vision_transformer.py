"""The Vision Transformer: what all of chapter 120 encodes with.

Chapter: ``120_self_supervised_learning`` (every section).

Papers:
    Dosovitskiy et al. (2021), *An Image Is Worth 16x16 Words* (the model).
    Vaswani et al. (2017), *Attention Is All You Need* (attention).

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

from dlcourse.self_supervised_learning.patches import (
    check_images,
    patch_grid,
    patchify,
    sincos_positions,
)

__all__ = ["Block", "VisionTransformer", "initialize"]

Positions = Literal["sincos", "learned"]


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
        self.grid = patch_grid(pair, patch_size)
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
        grid = patch_grid(image_size, self.patch_size)
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
        return weights.unflatten(2, patch_grid(images.shape[-2:], self.patch_size))


def initialize(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Give a module and all in it new weights, in place.

    Linear: uniform in ±√(6 / (fan_in + fan_out)) (Glorot, Bengio 2010, equation 16), which suits
    every width; a fixed standard deviation of 0.02 is made for widths near 1000, and leaves a
    narrow encoder nearly blind to its input. Biases 0. LayerNorm: 1 and 0. Tokens, learned
    positions and prototypes (bare parameters): normal with standard deviation 0.02, cut at two of
    them.
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
