"""Checks that both kinds of views share."""

from __future__ import annotations

import operator

Range = tuple[float, float]


def check_size(size: int, least: int) -> None:
    try:
        whole = operator.index(size)  # any integer type, NumPy's too
    except TypeError:
        whole = least - 1
    if whole < least:
        raise ValueError(f"the side of a view must be an integer >= {least}, got {size!r}")


def check_scale(scale: Range) -> None:
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale must be two shares in order, within (0, 1], got {scale}")
