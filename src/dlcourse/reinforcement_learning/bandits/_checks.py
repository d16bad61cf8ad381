"""What a bandit is given, checked before anything is changed."""

from __future__ import annotations

import math
import operator

import numpy as np
from numpy.typing import ArrayLike, NDArray


def count(value: int, name: str) -> int:
    """A whole number of at least 1."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number: got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1: got {number}")
    return number


def finite(value: float, name: str, *, positive: bool = False) -> float:
    """A finite number of at least 0, or above 0."""
    number = float(value)
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        raise ValueError(f"{name} must be finite and {'> 0' if positive else '≥ 0'}: got {value!r}")
    return number


def reals(value: ArrayLike, shape: tuple[int | None, ...], name: str) -> NDArray[np.float64]:
    """A float64 array of this shape, all finite; None stands for any length."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers: got dtype {array.dtype}")
    array = array.astype(np.float64)
    wanted = "(" + ", ".join("n" if s is None else str(s) for s in shape) + ")"
    if array.ndim != len(shape) or any(s not in (None, n) for s, n in zip(shape, array.shape)):
        raise ValueError(f"{name} must have shape {wanted}: got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite: it holds NaN or infinity")
    return array


def arm_index(value: int, num_arms: int) -> int:
    """An arm that exists, as a Python int; −1 is none."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"arm must be a whole number: got {value!r}")
    try:
        arm = operator.index(value)
    except TypeError:
        raise TypeError(f"arm must be a whole number: got {value!r}") from None
    if not 0 <= arm < num_arms:
        raise ValueError(f"arm {arm} does not exist: there are arms 0 to {num_arms - 1}")
    return arm


def arm_indices(value: ArrayLike, num_arms: int, n: int) -> NDArray[np.intp]:
    """n arms that exist."""
    arms = np.asarray(value)
    if arms.shape != (n,):
        raise ValueError(f"arms must have shape ({n},), one an observation: got {arms.shape}")
    if n == 0:
        return np.zeros(0, dtype=np.intp)
    if arms.dtype.kind not in "iu":
        raise TypeError(f"arms must hold whole numbers: got dtype {arms.dtype}")
    if arms.min() < 0 or arms.max() >= num_arms:
        raise ValueError(f"arms must be 0 to {num_arms - 1}: got {arms.min()} to {arms.max()}")
    return arms.astype(np.intp)
