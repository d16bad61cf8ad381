"""DDSketch: quantiles of a stream in bounded memory (Masson, Rim and Lee 2019, VLDB 12).

Chapter 123.3. A mean latency hides the slow requests, and a list of all latencies grows for ever.
"""

from __future__ import annotations

import math

from . import _checks


class DDSketch:
    """Counts of values in buckets whose bounds grow by γ: any quantile within a relative error.

    Bucket i holds γ^{i−1} < v ≤ γ^i, γ = (1 + α) / (1 − α). Its middle 2 γ^i / (γ + 1) is within
    α v of each v in it (Lemma 2). Two sketches merge by adding counts: p99 over ten servers is that
    of the merged sketch, never the mean of ten p99s.

    Args:
        relative_accuracy: α, at least 10⁻⁶ and below 1.
        max_buckets: where there would be more, the lowest are put together (Algorithm 3), and the
            lowest quantiles lose their accuracy. 2,048 with α = 0.01 span a factor of 10¹⁷.

    Raises ValueError for numbers outside these ranges.
    """

    def __init__(self, relative_accuracy: float = 0.01, max_buckets: int = 2048) -> None:
        self.relative_accuracy = _checks.fraction(relative_accuracy, "relative_accuracy")
        if self.relative_accuracy < 1e-6:
            raise ValueError(f"relative_accuracy must be at least 1e-6: got {relative_accuracy!r}")
        self.max_buckets = _checks.count(max_buckets, "max_buckets")
        self.gamma = (1 + self.relative_accuracy) / (1 - self.relative_accuracy)
        self.buckets: dict[int, int] = {}
        self.zeros = 0
        self.count = 0

    def add(self, value: float) -> None:
        """Count a value, finite and at least 0, of any unit. Raises ValueError for others."""
        value = _checks.at_least_zero(value, "value")
        self.count += 1
        if value == 0:
            self.zeros += 1
            return
        i = math.ceil(math.log(value) / math.log(self.gamma))  # i = ⌈log_γ v⌉
        self.buckets[i] = self.buckets.get(i, 0) + 1
        self._collapse()

    def quantile(self, q: float) -> float:
        """The value of rank ⌊q (n − 1)⌋ (from 0), within α of itself: NumPy's method "lower".

        Args:
            q: in [0, 1].

        Raises ValueError for other q, and where nothing has been added.
        """
        if not 0 <= _checks.real(q, "q") <= 1:
            raise ValueError(f"q must be in [0, 1]: got {q!r}")
        if self.count == 0:
            raise ValueError("nothing has been added yet: there is no quantile")
        rank = math.floor(q * (self.count - 1))
        below = self.zeros
        if rank < below:
            return 0.0
        for i in sorted(self.buckets):
            below += self.buckets[i]
            if rank < below:
                break
        # v̂ = 2 γ^i / (γ + 1), where γ^i alone might overflow
        return self.gamma ** (i - 1) * (2 * self.gamma / (self.gamma + 1))

    def merge(self, other: DDSketch) -> None:
        """Count also what ``other`` has counted, as if all had been added here (Algorithm 4).

        Raises ValueError where the accuracies differ: their buckets do not match.
        """
        if other.relative_accuracy != self.relative_accuracy:
            raise ValueError(
                "only sketches of one relative_accuracy merge: got "
                f"{self.relative_accuracy} and {other.relative_accuracy}"
            )
        self.count += other.count
        self.zeros += other.zeros
        for i, n in [*other.buckets.items()]:
            self.buckets[i] = self.buckets.get(i, 0) + n
        self._collapse()

    def _collapse(self) -> None:
        if (surplus := len(self.buckets) - self.max_buckets) > 0:
            lowest = sorted(self.buckets)[: surplus + 1]
            self.buckets[lowest[-1]] = sum(self.buckets.pop(i) for i in lowest)
