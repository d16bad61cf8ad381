"""The best arm, drawn at random where several are equally good."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def random_argmax(
    scores: NDArray[np.float64], rng: np.random.Generator, rtol: float = 1e-12
) -> int:
    """The index of the largest score; equal ones have the same chance.

    Scores of arms with the same data may differ in the last bit, so scores within ``rtol`` of the
    largest (relative, and at least absolute) count as equal.

    Args:
        scores: ``(K,)``, finite.
        rng: is used only where there is a tie.
    """
    best = scores.max()
    tied = np.flatnonzero(scores >= best - rtol * max(1.0, abs(best)))
    return int(tied[0] if len(tied) == 1 else rng.choice(tied))
