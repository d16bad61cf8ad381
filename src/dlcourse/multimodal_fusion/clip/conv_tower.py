"""A small convolutional tower for small pictures, read by attention as CLIP's ResNets are.

Chapter: ``121_multimodal_fusion/2a_clip``.

Paper: Radford et al. (2021), section 2.4 (attention pooling).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.multimodal_fusion.clip.checks import check_images

__all__ = ["AttentionPool", "ConvTower"]


class AttentionPool(nn.Module):
    """One query asks a map of places: (B, D, H, W) → (B, D).

    The query is made from the mean over the map; keys and values know their place. A plain mean
    would forget where things are.
    """

    def __init__(self, width: int, places: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(width**-0.5 * torch.randn(1 + places, width))
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)

    def forward(self, maps: Tensor) -> Tensor:
        x = maps.flatten(2).mT  # (B, H·W, D)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positions
        b, n, d = x.shape
        q = self.query(x[:, :1]).view(b, 1, self.heads, -1).transpose(1, 2)
        k, v = self.key_value(x).view(b, n, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).reshape(b, d))


class ConvTower(nn.Module):
    """Convolutions that halve the side, then attention pooling: (B, 3, S, S) → (B, embed_dim).

    Each stage is a 3 × 3 convolution with stride 2, GroupNorm and GELU. GroupNorm and not
    BatchNorm: a batch's statistics would tell one picture about the others.

    Args:
        image_size: S, pixels; a multiple of 2 to the number of stages.
        widths: channels of each stage, multiples of 8; embed_dim is the last.

    Raises ValueError for sizes that do not fit; when called: as ``VisionTower``.
    """

    def __init__(
        self,
        image_size: int = 48,
        widths: Sequence[int] = (64, 128, 256),
        heads: int = 4,
        channels: int = 3,
    ) -> None:
        super().__init__()
        side, rest = divmod(image_size, 2 ** len(widths))
        if not widths or any(w < 8 or w % 8 for w in widths) or rest or not side:
            raise ValueError(
                f"need widths that are multiples of 8, and an image size that is one of "
                f"{2 ** len(widths)}: got {tuple(widths)} and {image_size}"
            )
        if widths[-1] % heads:
            raise ValueError(f"{heads} heads do not divide the width {widths[-1]}")
        self.image_size, self.channels, self.embed_dim = image_size, channels, widths[-1]
        stages: list[nn.Module] = []
        for a, b in zip((channels, *widths), widths):
            stages += [nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.GroupNorm(8, b), nn.GELU()]
        self.stages = nn.Sequential(*stages)
        self.pool = AttentionPool(widths[-1], side**2, heads)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, self.channels, self.image_size)
        return self.pool(self.stages(images))
