"""Few seeds, told honestly: interquartile mean and bootstrap intervals (section 122.1a).

Agarwal et al. (2021), "Deep reinforcement learning at the edge of the statistical precipice".
"""

from __future__ import annotations

import numpy as np


def interquartile_mean(scores: np.ndarray) -> float:
    """Mean of the middle half of all scores of ``(runs, tasks)``, or of any shape.

    The lowest and the highest ⌊n/4⌋ of n scores are left out. Raises ValueError if there are
    none, or one is NaN.
    """
    flat = np.sort(np.asarray(scores, dtype=float), axis=None)
    if not flat.size or np.isnan(flat).any():
        raise ValueError("scores must be numbers, at least one, none of them NaN")
    cut = flat.size // 4
    return float(flat[cut : flat.size - cut].mean())


def stratified_bootstrap(
    scores: np.ndarray, *, level: float = 0.95, repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the interquartile mean: runs are redrawn within each task.

    Args:
        scores: ``(runs, tasks)``, at least two runs.
        level: of the interval. repeats: number of resamples.

    Raises ValueError for another shape, fewer than two runs, NaN, or a level outside (0, 1).
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or scores.shape[0] < 2 or not scores.shape[1] or np.isnan(scores).any():
        raise ValueError(f"scores must be (runs ≥ 2, tasks ≥ 1) without NaN, got {scores.shape}")
    if not 0 < level < 1 or repeats < 1:
        raise ValueError("level must be in (0, 1) and repeats at least 1")
    rng = np.random.default_rng(seed)
    runs, tasks = scores.shape
    chosen = rng.integers(0, runs, (repeats, runs, tasks))  # each task by itself
    drawn = np.sort(np.take_along_axis(scores[None], chosen, 1).reshape(repeats, -1), axis=1)
    cut = runs * tasks // 4
    means = drawn[:, cut : runs * tasks - cut].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
