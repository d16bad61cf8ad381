"""Checks of settings that several parts share (section 122.1a)."""

from __future__ import annotations

import operator
from typing import Any


def at_least_one(name: str, value: Any) -> int:
    """A whole number from 1 on, as an int. Raises ValueError for anything else, 1e3 included."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number
