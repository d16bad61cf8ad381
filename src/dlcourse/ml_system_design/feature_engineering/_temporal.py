"""Numbers of a time: where it stands on the circles of day, week and year, and how late it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# What a circle counts, from 0, and how many there are in a turn.
CIRCLES = {
    "hour": (lambda t: t.hour + t.minute / 60 + t.second / 3600, 24),
    "weekday": (lambda t: t.day_of_week, 7),
    "month": (lambda t: t.month - 1, 12),
}
PARTS = (*CIRCLES, "elapsed")


def cyclic(times: pd.Series, part: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """sin φ and cos φ of the angle φ = 2π · part / period, both ``(n,)``, NaN where missing.

    On the circle 23:59 and 00:00 are neighbours; as numbers they are farthest apart.
    """
    value, period = CIRCLES[part]
    angle = 2 * np.pi * value(times.dt).to_numpy(dtype=np.float64, na_value=np.nan) / period
    return np.sin(angle), np.cos(angle)


def elapsed_days(times: pd.Series, since: pd.Timestamp) -> NDArray[np.float64]:
    """Days from ``since`` to each time, ``(n,)``, below 0 before it, NaN where missing."""
    return ((times - since) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64, na_value=np.nan)
