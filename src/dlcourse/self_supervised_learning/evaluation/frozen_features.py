"""The features of a frozen encoder, and a share of the labels.

Chapter: ``120_self_supervised_learning`` (every section).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dlcourse.datasets import Split
from dlcourse.self_supervised_learning.evaluation._checks import whole_labels

__all__ = ["features", "label_subset"]


@torch.no_grad()
def features(
    function: Callable[[Tensor], Tensor], split: Split, batch_size: int = 512
) -> Split:
    """The representation of every image of a split: float32 (N, …), beside the same labels.

    Args:
        function: images (B, C, H, W) → (B, D), or tokens (B, N, D), which are flattened. A module
            is put into eval mode for the call; afterwards each of its parts has its mode again.
        batch_size: images at a time, at least 1. The result does not depend on it.

    Raises ValueError for a batch_size below 1, or where ``function`` does not return one row an
    image.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    parts = list(function.modules()) if isinstance(function, nn.Module) else []
    modes = [part.training for part in parts]
    rows = []
    try:
        for part in parts:
            part.training = False
        for images in split.x.split(batch_size):
            out = function(images)
            if out.dim() < 2 or len(out) != len(images):
                raise ValueError(
                    f"function must return one row of features an image: {len(images)} images "
                    f"gave {tuple(out.shape)}"
                )
            rows.append(out.flatten(1).float())
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
    return Split(torch.cat(rows), split.y)


def label_subset(split: Split, fraction: float, seed: int = 0) -> Split:
    """A share of a split, class by class: max(1, round(fraction · n)) examples of each class.

    With one seed, the examples of a smaller share are among those of a larger one. The order of
    the split is kept, and the type of its labels, which may be any integer type.

    Raises ValueError for a fraction outside (0, 1], and for labels that are not integers 0, 1, ….
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, got {fraction}")
    generator = torch.Generator().manual_seed(seed)
    labels = whole_labels(split.y)
    keep = []
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0].cpu()
        order = torch.randperm(len(members), generator=generator)
        keep.append(members[order[: max(1, round(fraction * len(members)))]])
    index = torch.cat(keep).sort().values.to(split.y.device)
    return Split(split.x[index], split.y[index])
