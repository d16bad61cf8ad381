"""What the service and the simulation are given, checked before anything is changed."""

from __future__ import annotations

import math
import operator


def count(value: int, name: str, least: int = 1) -> int:
    """A whole number of at least ``least``."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number: got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}: got {number}")
    return number


def finite(value: float, name: str, *, positive: bool = False) -> float:
    """A finite number of at least 0, or above 0."""
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number: got {value!r}") from None
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        raise ValueError(f"{name} must be finite and {'> 0' if positive else '≥ 0'}: got {value!r}")
    return number
