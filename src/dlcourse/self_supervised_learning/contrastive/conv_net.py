"""A small convolutional encoder for small images.

Chapter: ``120_self_supervised_learning/1a_contrastive``.

Paper: He et al. (2015), *Delving Deep into Rectifiers* (the initial weights).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlcourse.self_supervised_learning.patches import check_images

__all__ = ["ConvNet", "he_initialize"]


class ConvNet(nn.Module):
    """A small encoder for small images: (B, C, H, W) → (B, embed_dim).

    Each stage is a 3 × 3 convolution, BatchNorm and ReLU; from the second on, a stage halves the
    side of the map. At the end each channel is averaged over its map.

    Args:
        in_channels: C.
        widths: channels of each stage; embed_dim is the last.
        generator: draws the initial weights (He et al. 2015); by default torch's global generator.

    Raises ValueError for a count below 1 and, when called, for images of another number of
    channels; TypeError, when called, for images that are not floating point.
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = (16, 32, 64),
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        widths = [operator.index(width) for width in widths]
        if not widths or min(in_channels, *widths) < 1:
            raise ValueError(
                f"need in_channels >= 1 and widths >= 1, got {in_channels} and {tuple(widths)}"
            )
        self.in_channels, self.embed_dim = in_channels, widths[-1]
        layers: list[nn.Module] = []
        for stage, width in enumerate(widths):
            layers += [
                nn.Conv2d(in_channels, width, 3, 1 if stage == 0 else 2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            in_channels = width
        self.layers = nn.Sequential(*layers)
        he_initialize(self, generator)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, self.in_channels)
        # Channels last in memory: the same numbers, and faster convolutions.
        maps = self.layers(images.contiguous(memory_format=torch.channels_last))  # (B, D, H', W')
        return maps.mean((2, 3))


def he_initialize(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """New weights for all convolutions and linear layers, in place: normal, variance 2 / fan-in.

    Biases become 0. Source: He et al. (2015), section 2.2.
    """
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
