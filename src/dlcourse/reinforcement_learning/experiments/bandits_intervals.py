"""Means over seeds with Student's 95 % intervals, for any number of seeds (section 122.2b)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Mean(NamedTuple):
    """A mean and half the width of its 95 % interval."""

    mean: float
    half: float


def mean_over_seeds(values: Sequence[float]) -> Mean:
    """The mean of independent runs. Raises ValueError for fewer than two."""
    from scipy.stats import t

    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"an interval needs a list of at least 2 values: got shape {x.shape}")
    half = t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
    return Mean(float(x.mean()), float(half))


def paired_over_seeds(first: Sequence[float], second: Sequence[float]) -> Mean:
    """The mean of ``first`` − ``second`` over the same seeds."""
    if len(first) != len(second):
        raise ValueError(f"pairs need equal lengths: got {len(first)} and {len(second)}")
    return mean_over_seeds(np.asarray(first, dtype=float) - np.asarray(second, dtype=float))
