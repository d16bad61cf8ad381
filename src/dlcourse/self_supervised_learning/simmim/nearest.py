"""What can be guessed of hidden pixels without learning: the nearest visible one.

Chapter: ``120_self_supervised_learning/1c_simmim``.

Paper: Xie et al. (2022), *SimMIM: A Simple Framework for Masked Image Modeling*, section 4.1.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["average_distance", "fill_from_nearest"]


def average_distance(hidden: Tensor) -> float:
    """AvgDist: how far hidden pixels are from the nearest visible one, on average, in pixels.

    ``hidden`` (H, W) is true or 1 where a pixel is hidden. Distances are Euclidean, between the
    centres of pixels, so the least is 1. Time and memory grow with (H·W)².

    Raises ValueError when all pixels are hidden, or none.

    Source: Xie et al. (2022), section 4.1.3, figure 3.
    """
    distance, _ = _nearest_visible(hidden)
    return distance.mean().item()


def fill_from_nearest(image: Tensor, hidden: Tensor) -> Tensor:
    """Copy into each hidden pixel the nearest visible one: (C, H, W), (H, W) → (C, H, W).

    Raises ValueError as ``average_distance`` does, and for a mask of another size.
    """
    if image.dim() != 3 or image.shape[1:] != hidden.shape:
        raise ValueError(
            f"need an image (C, H, W) and a mask (H, W) of its size, got {tuple(image.shape)} and "
            f"{tuple(hidden.shape)}"
        )
    _, nearest = _nearest_visible(hidden)
    hidden = hidden.bool()
    filled = image.clone()
    filled[:, hidden] = image[:, ~hidden][:, nearest]
    return filled


def _nearest_visible(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """For each hidden pixel the distance to the nearest visible one, and that one's number.

    Both (number of hidden pixels,), in reading order; visible pixels are numbered in that order.
    """
    hidden = hidden.bool()
    if hidden.dim() != 2 or hidden.all() or not hidden.any():
        raise ValueError(
            f"the mask must be (H, W) with hidden and visible pixels, got {tuple(hidden.shape)}, "
            f"{hidden.float().mean().item():.0%} hidden"
        )
    distance = torch.cdist(hidden.nonzero().double(), (~hidden).nonzero().double())
    nearest = distance.min(1)  # of equals, one
    return nearest.values, nearest.indices
