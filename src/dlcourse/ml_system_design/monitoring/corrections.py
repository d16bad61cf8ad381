"""Many tests at once: p-values corrected so that α speaks of the whole report."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

Correction = Literal["bh", "bonferroni"]
CORRECTIONS = ("bh", "bonferroni", None)


def adjust_p_values(
    p_values: ArrayLike, correction: Correction | None = "bh"
) -> NDArray[np.float64]:
    """p-values of m tests, corrected: reject those of at most α. ``(m,)`` in [0, 1].

    Without a correction, m independent tests of true hypotheses raise some alarm with probability
    1 − (1 − α)^m: 0.99 where m = 100, α = 0.05.

    Args:
        p_values: ``(m,)``, in [0, 1], in any order.
        correction: "bonferroni": P(any false alarm) ≤ α under any dependence. "bh": the expected
            share of false alarms among the alarms ≤ α, for tests that are independent or depend
            positively (Benjamini and Hochberg 1995); without any drift that is P(any false alarm),
            and where much drifts it finds more. None: as they are.

    Raises ValueError for numbers outside [0, 1] and for a correction that does not exist.
    """
    p = _checks.reals(p_values, 1, "p_values")
    if correction not in CORRECTIONS:
        raise ValueError(f'correction must be "bh", "bonferroni" or None: got {correction!r}')
    if (p < 0).any() or (p > 1).any():
        raise ValueError(f"p_values must be in [0, 1]: got {p.min()} to {p.max()}")
    m = len(p)
    if correction is None or m == 0:
        return p
    if correction == "bonferroni":
        return np.minimum(1.0, m * p)
    order = np.argsort(p)
    # q_(i) = min over j ≥ i of m p_(j) / j, with p_(1) ≤ … ≤ p_(m)
    q = np.minimum.accumulate((m * p[order] / np.arange(1, m + 1))[::-1])[::-1]
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(1.0, q)
    return adjusted
