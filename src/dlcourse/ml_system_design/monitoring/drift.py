"""Drift: does a window of requests come from where the reference came from?

Chapter 123.3. Each feature is tested alone, the p-values are corrected together, and each test
tells how large the change is. What changes only jointly (a correlation) is not seen here: see
``two_sample``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _columns
from .blocks import BlockPermutation
from .corrections import CORRECTIONS, Correction, adjust_p_values


@dataclass(frozen=True)
class FeatureTest:
    """One test of one feature.

    ``statistic`` is D, χ², or the difference of the rates; ``effect`` is D, Cramér's V, or the
    absolute difference of the rates: in [0, 1]. As rows are added p goes to 0 where there is any
    difference, and the effect to its true size; with few rows it is mostly chance, for D about
    0.87·√(1/n + 1/m). ``unseen`` names categories that the reference does not have.
    """

    feature: str
    test: Literal["kolmogorov-smirnov", "chi-squared", "missing"]
    statistic: float
    effect: float
    p_value: float
    adjusted_p_value: float
    drifted: bool
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class DriftReport:
    """All tests of one window: one or two a feature. Everything in it can be written as JSON."""

    tests: tuple[FeatureTest, ...]
    alpha: float
    correction: Correction | None
    num_reference: int
    num_current: int

    @property
    def drifted(self) -> list[str]:
        """The features of which some test was rejected, in the order of the reference."""
        return list(dict.fromkeys(test.feature for test in self.tests if test.drifted))

    @property
    def share_drifted(self) -> float:
        """Drifted features / all features."""
        return len(self.drifted) / len({test.feature for test in self.tests})

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(asdict(self) | {"drifted": self.drifted}, allow_nan=False)


class DriftDetector:
    """Compares windows with a reference, one feature at a time.

    Numbers: Kolmogorov–Smirnov, D = sup_x |F(x) − G(x)|; where many values are equal its p-values
    are too large, never too small. Categories: χ² of the 2 × k table, where categories too rare for
    it (an expected count below 5) are counted together. Missing values: Fisher's exact test of
    their rate, where there are any; the other tests leave them out.

    Rows must be independent. For a stream set ``block`` to several times
    ``autocorrelation_time``: the same statistics are then judged by permuting blocks of successive
    rows. One report holds α; a report every hour is a new test every hour.

    Args:
        reference: a pandas DataFrame, or a dict from names to arrays ``(n,)``.
        alpha: of one report, in (0, 1); see ``adjust_p_values`` for what it bounds.
        correction: "bh", "bonferroni" or None.
        categorical: names of features that are codes, not amounts. Strings and bools always are.
        min_effect: a feature has drifted if also its effect is at least this, in [0, 1]: with
            enough rows any trifle is significant.
        block: rows in a block; 1 takes the rows as independent.
        permutations: how many, where ``block`` > 1.
        seed: of the permutations.

    Raises TypeError or ValueError, which says what is wrong.
    """

    def __init__(
        self,
        reference: Any,
        alpha: float = 0.05,
        correction: Correction | None = "bh",
        *,
        categorical: Sequence[str] = (),
        min_effect: float = 0.0,
        block: int = 1,
        permutations: int = 999,
        seed: int = 0,
    ) -> None:
        if isinstance(categorical, str):
            raise TypeError(f"categorical must be a list of names: got {categorical!r}")
        if correction not in CORRECTIONS:
            raise ValueError(f'correction must be "bh", "bonferroni" or None: got {correction!r}')
        self.alpha = _checks.fraction(alpha, "alpha")
        self.correction = correction
        self.min_effect = _checks.at_least_zero(min_effect, "min_effect")
        if self.min_effect > 1:
            raise ValueError(f"min_effect must be in [0, 1], as effects are: got {min_effect!r}")
        self.block = _checks.count(block, "block")
        self.permutations = _checks.count(permutations, "permutations")
        self.seed = _checks.count(seed, "seed", least=0)
        self._reference = _columns.read(reference, "reference", tuple(map(str, categorical)))

    def compare(self, current: Any) -> DriftReport:
        """Tests of each feature of ``current``, which has the columns of the reference.

        Raises ValueError for other columns, TypeError for strings where numbers were, and
        ValueError where ``permutations`` or blocks are too few for any alarm.
        """
        kinds = {name: column.categorical for name, column in self._reference.items()}
        now = _columns.read(current, "current", kinds)
        num_reference, num_current = (
            len(next(iter(columns.values())).values) for columns in (self._reference, now)
        )
        blocks = None
        if self.block > 1:
            rng = np.random.default_rng(self.seed)
            sizes = num_reference, num_current
            blocks = BlockPermutation(*sizes, self.block, self.permutations, rng)
        found = []
        for name, reference in self._reference.items():
            found += _tests(name, reference, now[name], blocks)
        if blocks and blocks.smallest_p > self.alpha / (len(found) if self.correction else 1):
            raise ValueError(
                f"{len(found)} tests at alpha = {self.alpha} never raise an alarm with p-values of "
                f"at least {blocks.smallest_p:.2g}: use more than {len(found) / self.alpha:.0f} "
                "permutations, or more blocks"
            )
        q = adjust_p_values([test["p_value"] for test in found], self.correction)
        tests = tuple(
            FeatureTest(
                **test,
                adjusted_p_value=float(adjusted),
                drifted=bool(adjusted <= self.alpha and test["effect"] >= self.min_effect),
            )
            for test, adjusted in zip(found, q, strict=True)
        )
        return DriftReport(tests, self.alpha, self.correction, num_reference, num_current)


def population_stability_index(
    reference: ArrayLike, current: ArrayLike, bins: int = 10, *, smoothing: float = 0.5
) -> float:
    """PSI = Σ_b (q_b − p_b) ln(q_b / p_b), p and q the shares of the bins: KL both ways, in nats.

    Bins are quantiles of the reference. Without drift PSI is near (bins − 1)(1/n + 1/m) (Yurdakul
    2018), so the usual limits of 0.1 and 0.25 mean nothing in a window of 50 rows.

    Args:
        reference: numbers ``(n,)``, or strings, whose bins are the categories of both samples.
        current: ``(m,)``, of the same kind.
        bins: at least 2; fewer are used where quantiles are equal.
        smoothing: added to each count, at least 0; without it an empty bin makes PSI infinite.

    Raises TypeError or ValueError for missing values, other shapes and numbers.
    """
    bins = _checks.count(bins, "bins", least=2)
    smoothing = _checks.at_least_zero(smoothing, "smoothing")
    columns = _columns.read({"values": reference}, "reference", ())
    kinds = {"values": columns["values"].categorical}
    p, q = columns["values"], _columns.read({"values": current}, "current", kinds)["values"]
    if p.missing.any() or q.missing.any():
        raise ValueError("reference and current must have no missing values: drop or name them")
    if p.categorical:
        table = _table(p.values, q.values)
    else:
        _checks.reals(p.values, 1, "reference"), _checks.reals(q.values, 1, "current")
        quantiles = np.quantile(p.values, np.arange(1, bins) / bins)
        quantiles, times = np.unique(quantiles, return_counts=True)
        # A value that several quantiles hit gets a bin of its own: what lies below is apart.
        below = np.nextafter(quantiles[times > 1], -np.inf)
        edges = np.union1d(quantiles, below)
        places = (np.searchsorted(edges, c.values, side="left") for c in (p, q))
        table = np.array([np.bincount(place, minlength=len(edges) + 1) for place in places])
        table = table[:, table.sum(0) > 0]
    counts = table + smoothing
    p_b, q_b = counts / counts.sum(axis=1, keepdims=True)  # (bins,) each
    with np.errstate(divide="ignore"):
        return float(((q_b - p_b) * np.log(q_b / p_b)).sum())


def _tests(
    name: str, reference: _columns.Column, now: _columns.Column, blocks: BlockPermutation | None
) -> list[dict[str, Any]]:
    """The tests of one feature, without the corrected p-values."""
    if blocks:
        reference = reference.from_row(blocks.reference_start)
        now = now.from_row(blocks.current_start)
    found = []
    if len(reference.present) and len(now.present):
        test = _chi_squared if reference.categorical else _kolmogorov_smirnov
        found.append({"feature": name, **test(reference, now, blocks)})
    if reference.missing.any() or now.missing.any():
        found.append({"feature": name, **_missing(reference, now, blocks)})
    return found


def _kolmogorov_smirnov(reference, now, blocks: BlockPermutation | None) -> dict[str, Any]:
    from scipy.stats import ks_2samp

    D, p = ks_2samp(reference.present, now.present)
    if blocks:
        use = ~np.concatenate([reference.missing, now.missing])
        pooled = np.concatenate([reference.present, now.present])
        order = np.argsort(pooled)
        last = np.append(np.diff(pooled[order]) != 0, True)  # of rows that are equal

        def distances(labels: NDArray[np.bool_]) -> NDArray:
            z = labels[:, order]  # (b, n)
            with np.errstate(invalid="ignore"):
                F = np.cumsum(~z, axis=1) / (~z).sum(axis=1, keepdims=True)
                G = np.cumsum(z, axis=1) / z.sum(axis=1, keepdims=True)
            return np.abs(F - G)[:, last].max(axis=1)

        p = blocks.p_value(distances, use)
    D = float(D)
    return {"test": "kolmogorov-smirnov", "statistic": D, "effect": D, "p_value": float(p)}


def _chi_squared(reference, now, blocks: BlockPermutation | None) -> dict[str, Any]:
    from scipy.sparse import csr_array
    from scipy.stats import chi2

    seen = set(reference.present.tolist())
    unseen = tuple(sorted({str(value) for value in now.present.tolist() if value not in seen}))
    pooled = np.concatenate([reference.present, now.present])
    groups = _frequent(pooled, min(len(reference.present), len(now.present)) / len(pooled))
    n, k = len(pooled), int(groups.max()) + 1
    one_hot = csr_array((np.ones(n), (np.arange(n), groups)), shape=(n, k))

    def statistics(labels: NDArray[np.bool_]) -> NDArray:
        both = np.stack([z.astype(float) @ one_hot for z in (~labels, labels)], axis=1)  # (b, 2, k)
        expected = both.sum(axis=1, keepdims=True) * both.sum(axis=2, keepdims=True) / n
        with np.errstate(invalid="ignore"):
            return ((both - expected) ** 2 / expected).sum(axis=(1, 2))

    observed = np.repeat([False, True], [len(reference.present), len(now.present)])
    x2 = float(statistics(observed[None])[0])
    if k == 1:
        p = 1.0
    elif blocks:
        p = blocks.p_value(statistics, ~np.concatenate([reference.missing, now.missing]))
    else:
        p = chi2.sf(x2, k - 1)
    effect = float(np.sqrt(x2 / n))  # V = √(χ² / (n min(2 − 1, k − 1)))
    return {
        "test": "chi-squared",
        "statistic": x2,
        "effect": effect,
        "p_value": float(p),
        "unseen": unseen,
    }


def _missing(reference, now, blocks: BlockPermutation | None) -> dict[str, Any]:
    from scipy.stats import fisher_exact

    table = [[int(c.missing.sum()), int((~c.missing).sum())] for c in (reference, now)]
    difference = float(now.missing.mean() - reference.missing.mean())
    if blocks:
        missing = np.concatenate([reference.missing, now.missing]).astype(float)

        def differences(labels: NDArray[np.bool_]) -> NDArray:
            rate = labels @ missing / labels.sum(axis=1)
            return np.abs(rate - ~labels @ missing / (~labels).sum(axis=1))

        p = blocks.p_value(differences, np.ones(len(missing), bool))
    else:
        p = fisher_exact(table)[1]
    return {
        "test": "missing",
        "statistic": difference,
        "effect": abs(difference),
        "p_value": min(1.0, float(p)),
    }


def _table(reference: NDArray, now: NDArray) -> NDArray[np.float64]:
    """Counts of each category in either sample: ``(2, k)``."""
    counts = [Counter(values.tolist()) for values in (reference, now)]
    categories = list(dict.fromkeys([*counts[0], *counts[1]]))
    return np.array([[c[category] for category in categories] for c in counts], float)


def _frequent(values: NDArray, smaller_share: float, least: float = 5.0) -> NDArray[np.intp]:
    """The group of each value: a category with at least ``least`` rows expected in the smaller
    sample is one, and the others are put together until a group has as many.

    Which of them share a group is drawn by a hash of their names: neither the samples nor the counts
    decide, so that the test stays valid (in the order of their counts, what one sample has more of
    would stand together, and false alarms would be certain). What is left joins the last group.
    """
    counts = Counter(values.tolist()).most_common()
    group = {value: i for i, (value, c) in enumerate(counts) if c * smaller_share >= least}
    rest = [(value, c) for value, c in counts if value not in group]
    rest.sort(key=lambda pair: blake2b(repr(pair[0]).encode(), digest_size=8).digest())
    last, at, held = len(group) - 1, len(group), 0.0
    for value, c in rest:
        group[value] = at
        held += c * smaller_share
        if held >= least:
            last, at, held = at, at + 1, 0.0
    last = max(last, 0)
    return np.array([min(group[value], last) for value in values.tolist()], np.intp)
