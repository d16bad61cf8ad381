"""Handwritten digits of 8 × 8 pixels, which ship with scikit-learn."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from dlcourse.datasets.splits import Splits, stratified_splits


def digits(
    seed: int = 0,
    *,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    max_shift: int = 0,
    copies: int = 1,
) -> Splits:
    """Handwritten digits, 8 × 8 pixels, ten classes; 1,797 images that ship with scikit-learn.

    The images are split before they are shifted, so no shifted copy of a test image is ever trained
    on. The split depends on ``seed`` alone and is stratified by class.

    Args:
        seed: chooses the split and the shifts.
        validation_fraction: share of the images in the validation part, in (0, 1).
        test_fraction: share of the images in the test part, in (0, 1).
        max_shift: each copy is moved by up to this many pixels in each direction, on a canvas
            that is ``max_shift`` pixels wider on every side. 0 leaves the images alone. A shifted
            task is harder: a linear model solves the plain one.
        copies: how many shifted copies of each image to make, at least 1.

    Returns:
        ``Splits`` of ``x``: float32 ``(N, 1, S, S)`` in [0, 1] with ``S = 8 + 2 * max_shift``, and
        ``y``: int64 ``(N,)``.

    Raises:
        ValueError: a fraction or a count is out of range.

    Source: E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI
    Machine Learning Repository, https://doi.org/10.24432/C50P49.
    """
    images, labels = load_digits(return_X_y=True)
    return stratified_splits(
        torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16,  # 17 grey levels, 0 to 16
        torch.tensor(labels, dtype=torch.int64),
        seed,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        max_shift=max_shift,
        copies=copies,
    )
