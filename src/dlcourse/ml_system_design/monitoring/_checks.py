"""What a monitor is given, checked before anything is changed."""

from __future__ import annotations

import math
import operator

import numpy as np
from numpy.typing import ArrayLike, NDArray


def count(value: int, name: str, least: int = 1) -> int:
    """A whole number of at least ``least``."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a whole number: got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number: got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}: got {number}")
    return number


def real(value: float, name: str) -> float:
    """A number; NaN and infinities are numbers here."""
    if isinstance(value, str):
        raise TypeError(f"{name} must be a number: got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number: got {value!r}") from None


def fraction(value: float, name: str) -> float:
    """A number between 0 and 1, both left out."""
    number = real(value, name)
    if not 0 < number < 1:
        raise ValueError(f"{name} must be between 0 and 1: got {value!r}")
    return number


def at_least_zero(value: float, name: str) -> float:
    """A finite number of at least 0."""
    number = real(value, name)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{name} must be finite and ≥ 0: got {value!r}")
    return number


def generator(rng: np.random.Generator) -> np.random.Generator:
    """A generator of random numbers."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a generator, as np.random.default_rng(0) is: got {rng!r}")
    return rng


def reals(value: ArrayLike, ndim: int, name: str) -> NDArray[np.float64]:
    """A finite float64 array of ``ndim`` axes."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers: got dtype {array.dtype}")
    array = array.astype(np.float64)
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes: got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite: it holds NaN or infinity")
    return array
