"""What the functions of medical imaging are given, checked before anything is computed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def share(value: float, name: str) -> float:
    """A number between 0 and 1, both left out."""
    number = float(value)
    if not 0 < number < 1:
        raise ValueError(f"{name} must be between 0 and 1: got {value!r}")
    return number


def positive(value: float, name: str) -> float:
    """A finite number above 0."""
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"{name} must be finite and above 0: got {value!r}")
    return number


def row(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """A finite float64 array of one axis, with at least one value."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers: got dtype {array.dtype}")
    array = array.astype(np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} must be one row of numbers: got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite: it holds NaN or infinity")
    return array


def scores_and_labels(
    scores: ArrayLike, labels: ArrayLike, name: str = "scores"
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A score for each case, and whether the case is positive. Both classes must be there."""
    values, truth = row(scores, name), row(labels, "labels")
    if values.shape != truth.shape:
        raise ValueError(f"{name} and labels must be as many: got {values.size} and {truth.size}")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be 0 (negative) or 1 (positive)")
    found = truth.astype(bool)
    if found.all() or not found.any():
        raise ValueError(
            f"all {found.size} labels are {int(found[0])}: positive and negative cases are needed. "
            "Draw the validation set by class, or collect more cases"
        )
    return values, found


def probabilities_and_labels(
    probabilities: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """As ``scores_and_labels``, for probabilities of the positive class."""
    values, truth = scores_and_labels(probabilities, labels, "probabilities")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"probabilities must lie in [0, 1]: got {values.min():g} to {values.max():g}. Logits "
            "go through a sigmoid first"
        )
    return values, truth
