"""Streams whose neighbours resemble each other: how many rows count, and a permutation of blocks.

Every two-sample test in this folder takes rows as exchangeable. Successive rows of a stream are
not: under AR(0.9) 500 rows say as much about a mean as 26 independent ones, and a test that counts
500 raises false alarms. Rows are therefore moved between the samples in blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks


def autocorrelation_time(values: ArrayLike, window: float = 5.0) -> float:
    """τ = 1 + 2 Σ_k ρ_k: n successive rows are worth n / τ independent ones for their mean.

    The sum ends at the first lag M ≥ ``window`` · τ(M), as later ρ_k are noise (Sokal 1997, "Monte
    Carlo methods in statistical mechanics", section 3.3). An AR(1) process with coefficient φ has
    τ = (1 + φ) / (1 − φ). A block of several τ makes blocks nearly independent.

    Args:
        values: ``(n,)``, in the order of time, n ≥ 2, not all equal. Some hundred τ of them are
            needed for a good estimate.
        window: how many τ the sum is long, above 0.

    Returns:
        τ in rows, at least 1 (streams that alternate are worth more rows; that is not counted).

    Raises ValueError for other shapes or numbers.
    """
    x = _checks.reals(values, 1, "values")
    if len(x) < 2 or (x == x[0]).all():
        raise ValueError("values must be at least 2 numbers that are not all equal")
    if not window > 0:
        raise ValueError(f"window must be above 0: got {window!r}")
    n = len(x)
    x = x - x.mean()
    spectrum = np.fft.rfft(x / np.abs(x).max(), 2 * n)  # zeros keep the ends apart
    covariance = np.fft.irfft(np.abs(spectrum) ** 2)[:n]
    rho = covariance / covariance[0]
    tau = 2 * np.cumsum(rho) - 1  # τ(M) = 1 + 2 Σ_{k=1..M} ρ_k
    enough = np.flatnonzero(np.arange(n) >= window * tau)
    return max(1.0, float(tau[enough[0] if len(enough) else -1]))


class BlockPermutation:
    """Labels for two samples under which blocks of successive rows change places.

    Each sample is cut into blocks of ``block`` successive rows; what is left over at its start,
    the oldest, is not used. Where blocks are exchangeable, p = (1 + #{T_b ≥ T}) / (1 + B) is at
    most u with probability at most u (Phipson and Smyth 2010). Neighbouring blocks still resemble
    each other at their ends, so for streams this holds the better the longer the blocks are.

    Memory: (1 + B) · N bytes.

    Args:
        num_reference, num_current: rows of either sample.
        block: rows in a block; 1 is the ordinary permutation test.
        permutations: B, at least 1.
        rng: draws the permutations.

    Attributes:
        reference_start, current_start: the first row of either sample that is used.
        labels: ``(1 + B, N)`` bool, true for current rows; the first row is what was observed.
        smallest_p: the smallest p-value that this test can give.

    Raises ValueError where a sample is shorter than two blocks.
    """

    def __init__(
        self,
        num_reference: int,
        num_current: int,
        block: int,
        permutations: int,
        rng: np.random.Generator,
    ) -> None:
        block = _checks.count(block, "block")
        permutations = _checks.count(permutations, "permutations")
        blocks = [n // block for n in (num_reference, num_current)]
        if min(blocks) < 2:
            raise ValueError(
                f"each sample needs at least 2 blocks of {block} rows: got {num_reference} and "
                f"{num_current} rows. Use a longer window or a smaller block"
            )
        self.reference_start = num_reference - blocks[0] * block
        self.current_start = num_current - blocks[1] * block
        observed = np.repeat([False, True], blocks)
        shuffled = rng.permuted(np.tile(observed, (permutations, 1)), axis=1)
        self.labels = np.repeat(np.vstack([observed, shuffled]), block, axis=1)
        self.smallest_p = max(1 / (1 + permutations), 1 / math.comb(sum(blocks), blocks[0]))

    def p_value(self, statistic: Callable[[NDArray[np.bool_]], NDArray], use: NDArray) -> float:
        """How often labels that were permuted give a statistic as large as what was observed.

        Args:
            statistic: from labels ``(b, n)`` to T ``(b,)``; NaN, where one sample is empty, counts
                as large.
            use: ``(N,)`` bool: the n rows that have a value.
        """
        labels = self.labels[:, use]
        parts = np.array_split(labels, math.ceil(labels.size / 2_000_000))
        T = np.concatenate([statistic(part) for part in parts])
        rounding = 1e-12 * np.nanmax(np.abs(T))
        large = ~(T[1:] < T[0] - rounding)
        return float((1 + large.sum()) / len(T))
