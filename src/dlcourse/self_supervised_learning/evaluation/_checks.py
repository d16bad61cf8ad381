"""What the parts of this folder demand of features and labels."""

from __future__ import annotations

from torch import Tensor

from dlcourse.datasets import Split


def check_splits(*splits: Split) -> list[Split]:
    """The splits, their labels as int64.

    Raises ValueError unless every split holds finite features (N, D) of one width, and labels 0,
    1, … of any integer type.
    """
    width = splits[0].x.shape[-1]
    for x, y in splits:
        if x.dim() != 2 or x.shape[1] != width or len(x) == 0:
            raise ValueError(
                "features must be (N, D) with N >= 1 and the same D everywhere, got "
                f"{[tuple(s.x.shape) for s in splits]}: flatten tokens, or use features()"
            )
        if not x.isfinite().all():
            raise ValueError(
                "the features hold NaN or infinity: has the training of the encoder diverged?"
            )
        if y.shape != x.shape[:1]:
            raise ValueError(
                f"labels must be integers 0, 1, … of shape ({len(x)},), got {tuple(y.shape)}"
            )
    return [Split(x, whole_labels(y)) for x, y in splits]


def whole_labels(y: Tensor) -> Tensor:
    """Labels of any integer type as int64. Raises ValueError for others, and below 0."""
    if y.is_floating_point() or y.is_complex():
        raise ValueError(f"labels must be integers 0, 1, …, got {y.dtype}: convert with .long()")
    y = y.long()
    if y.numel() and y.min() < 0:
        raise ValueError(f"labels must be integers 0, 1, …, got {int(y.min())}")
    return y
