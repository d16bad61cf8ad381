"""ADWIN: a window that grows while its mean stays, and is cut when it changes.

Chapter 123.3. Bifet and Gavaldà 2007, "Learning from time-changing data with adaptive windowing"
(SDM).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from . import _checks


class _Bucket(NamedTuple):
    """n successive values: their mean, and the sum of squares around it."""

    n: int
    mean: float
    squares: float

    def __add__(self, other: _Bucket) -> _Bucket:  # Chan, Golub and LeVeque 1983
        n = self.n + other.n
        apart = other.mean - self.mean
        squares = self.squares + other.squares + apart**2 * self.n * other.n / n
        return _Bucket(n, self.mean + apart * other.n / n, squares)


class ADWIN:
    """The newest values of a stream whose mean has not changed, in O(log n) memory.

    The window W is cut into an older W_0 and a newer W_1 at each border of its buckets. The older
    is dropped where their means differ by more than (equation 3.1, δ' = δ / ln |W|)

        ε_cut = √(2 σ²_W ln(2/δ') / m) + 2 ln(2/δ') / (3 m),    1 / m = 1 / |W_0| + 1 / |W_1|.

    Buckets of 1, 2, 4, … values, at most ``max_buckets`` of a size, stand for the window. Values
    must be independent: a stream with autocorrelation is cut without drift.

    Args:
        delta: δ, in (0, 1): about the probability of a false alarm at one value.
        bounds: the least and the largest value that can come, of which ε_cut makes use.
        max_buckets: of one size, at least 2; more find the place of a change more closely.

    Attributes:
        detections: how many changes were found.

    Raises ValueError, which says what is wrong.
    """

    def __init__(
        self,
        delta: float = 0.002,
        bounds: tuple[float, float] = (0.0, 1.0),
        max_buckets: int = 5,
    ) -> None:
        self.delta = _checks.fraction(delta, "delta")
        try:
            low, high = (_checks.real(bound, "a bound") for bound in bounds)
        except (TypeError, ValueError):
            raise TypeError(f"bounds must be two numbers: got {bounds!r}") from None
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"bounds must be finite, the lower first: got {bounds}")
        self.bounds = (low, high)
        self.max_buckets = _checks.count(max_buckets, "max_buckets", least=2)
        self.detections = 0
        self._rows: list[list[_Bucket]] = [[]]  # row i: buckets of 2^i values, oldest first

    def update(self, value: float) -> bool:
        """Take the next value; returns whether the mean has changed, and then drops what is old.

        Raises ValueError for a value outside ``bounds``.
        """
        low, high = self.bounds
        value = _checks.real(value, "value")
        if not low <= value <= high:
            raise ValueError(f"value must be within bounds {self.bounds}: got {value}. Clip it")
        self._rows[0].append(_Bucket(1, (value - low) / (high - low), 0.0))
        for i, row in enumerate(self._rows):
            if len(row) <= self.max_buckets:
                break
            if i + 1 == len(self._rows):
                self._rows.append([])
            self._rows[i + 1].append(row.pop(0) + row.pop(0))
        changed = False
        while self._must_cut():
            while not self._rows[-1]:
                self._rows.pop()
            self._rows[-1].pop(0)
            changed = True
        self.detections += changed
        return changed

    def __len__(self) -> int:
        """|W|."""
        return sum(bucket.n for row in self._rows for bucket in row)

    @property
    def mean(self) -> float:
        """The mean of the window, in the stream's unit; NaN before the first value."""
        if not len(self):
            return math.nan
        low, high = self.bounds
        return low + (high - low) * self._whole().mean

    def _whole(self) -> _Bucket:
        whole = _Bucket(0, 0.0, 0.0)
        for row in reversed(self._rows):
            for bucket in row:
                whole = whole + bucket
        return whole

    def _must_cut(self) -> bool:
        buckets = [bucket for row in reversed(self._rows) for bucket in row]  # oldest first
        if len(buckets) < 2:
            return False
        W = self._whole()
        n = np.array([bucket.n for bucket in buckets])
        sums = n * np.array([bucket.mean for bucket in buckets])
        n_0, sum_0 = np.cumsum(n)[:-1], np.cumsum(sums)[:-1]  # of W_0, at each border
        n_1 = W.n - n_0
        apart = np.abs(sum_0 / n_0 - (W.n * W.mean - sum_0) / n_1)
        m = 1 / (1 / n_0 + 1 / n_1)
        log = math.log(2 / self.delta * max(1.0, math.log(W.n)))  # ln(2 / δ')
        epsilon = np.sqrt(2 / m * W.squares / W.n * log) + 2 / (3 * m) * log
        return bool((apart > epsilon).any())
