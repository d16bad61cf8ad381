"""Which patches iBOT hides from the student.

Chapter: ``120_self_supervised_learning/1b_dino``.

Papers: Zhou et al. (2022), iBOT; Oquab et al. (2024), DINOv2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["blob_masks"]


def blob_masks(
    n: int,
    grid: tuple[int, int],
    generator: torch.Generator,
    *,
    share: tuple[float, float] = (0.1, 0.5),
    probability: float = 0.5,
) -> Tensor:
    """Which patches iBOT hides: (n, rows · columns), bool; on the generator's device.

    A share ``probability`` of the images, drawn at random, has patches hidden; how large a part of
    them grows evenly over those images from the first to the second value of ``share``. So every
    batch hides the same *number* of patches, and the shapes of a step never change. What is hidden
    hangs together: the patches with the lowest values of a smooth random field, so that a patch
    can't be guessed from the one beside it.

    DINOv2 differs in both. It cuts the range of ``share`` into as many bins as there are images to
    hide something in, and draws a ratio within each bin: the number varies from batch to batch
    below a fixed upper bound, for which room is kept. And it hides rectangles.

    Raises ValueError for a count or share out of range.
    """
    rows, columns = grid
    low, high = share
    if n < 1 or rows < 1 or columns < 1:
        raise ValueError(f"need n >= 1 and a grid of patches, got n = {n} and {grid}")
    if not (0 < low <= high < 1 and 0 <= probability <= 1):
        raise ValueError(
            "need 0 < share[0] <= share[1] < 1 and probability in [0, 1], "
            f"got {share} and {probability}"
        )
    device = generator.device
    masked = round(probability * n)
    counts = (torch.linspace(low, high, masked, device=device) * rows * columns).round()
    counts = torch.cat([counts, counts.new_zeros(n - masked)])  # (n,)
    counts = counts[torch.randperm(n, generator=generator, device=device)]
    coarse = [max(2, math.ceil(side / 3)) for side in grid]
    field = torch.randn(n, 1, *coarse, generator=generator, device=device)
    field = F.interpolate(field, size=grid, mode="bilinear").flatten(1)  # (n, N)
    ranks = field.argsort(1).argsort(1)
    return ranks < counts[:, None]
