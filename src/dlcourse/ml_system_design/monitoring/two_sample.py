"""Tests of all features at once: what changes jointly, while each feature alone stays as it was.

Chapter 123.3. Gretton et al. 2012, "A kernel two-sample test" (JMLR 13); Lopez-Paz and Oquab 2017,
"Revisiting classifier two-sample tests" (ICLR).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .blocks import BlockPermutation


class TwoSampleResult(NamedTuple):
    """The statistic (MMD²_u, or the mean AUC of the folds), its p-value."""

    statistic: float
    p_value: float


def maximum_mean_discrepancy(
    x: ArrayLike,
    y: ArrayLike,
    *,
    rng: np.random.Generator,
    bandwidth: float | None = None,
    permutations: int = 499,
    block: int = 1,
) -> TwoSampleResult:
    """The unbiased MMD² of two samples (Gretton et al. 2012, equation 3), and a permutation test.

    k(a, b) = exp(−‖a − b‖² / (2 σ²)). MMD² is 0 only where the distributions are equal; its
    unbiased estimate may be below 0. Scale the features first: one of large unit hides the others.
    O((m + n)²) memory and O(permutations · (m + n)²) time.

    Args:
        x: ``(m, d)``, m ≥ 2, finite.
        y: ``(n, d)``, n ≥ 2.
        rng: draws the permutations.
        bandwidth: σ, in the features' unit; None takes the median distance of the pooled rows,
            which no permutation changes.
        permutations: how many, at least 1; p is at least 1 / (1 + permutations).
        block: rows that move together (see ``autocorrelation_time``); the oldest that fill no
            block are left out.

    Raises TypeError or ValueError, which says what is wrong.
    """
    x, y, rng = *_samples(x, y), _checks.generator(rng)
    blocks = BlockPermutation(len(x), len(y), block, permutations, rng)
    pooled = np.concatenate([x[blocks.reference_start :], y[blocks.current_start :]])  # (N, d)
    pooled -= pooled.mean(axis=0)  # changes no distance, and fewer digits cancel
    if not np.abs(pooled).max() < 1e150:
        raise ValueError("x and y are too large for squares: scale the features")
    squares = (pooled**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * pooled @ pooled.T, 0)  # (N, N)
    if bandwidth is not None:
        bandwidth = _checks.real(bandwidth, "bandwidth")
    if bandwidth is None:
        apart = distances[np.triu_indices(len(pooled), 1)]
        bandwidth = float(np.sqrt(np.median(apart))) or float(np.sqrt(apart.mean())) or 1.0
    elif not (np.isfinite(bandwidth) and bandwidth > 0):
        raise ValueError(f"bandwidth must be finite and above 0: got {bandwidth!r}")
    K = np.exp(-distances / (2 * bandwidth**2))
    np.fill_diagonal(K, 0)  # i ≠ j

    def mmd2(labels: NDArray[np.bool_]) -> NDArray[np.float64]:
        b, a = labels.astype(float), (~labels).astype(float)  # (B, N)
        m, n = a.sum(axis=1), b.sum(axis=1)
        aK, bK = a @ K, b @ K
        # Σ_{i≠j} k(x_i, x_j) / (m (m − 1)) + Σ_{i≠j} k(y_i, y_j) / (n (n − 1))
        #   − 2 Σ_{i,j} k(x_i, y_j) / (m n)
        within = (aK * a).sum(axis=1) / (m * (m - 1)) + (bK * b).sum(axis=1) / (n * (n - 1))
        return within - 2 * (aK * b).sum(axis=1) / (m * n)

    p = blocks.p_value(mmd2, np.ones(len(pooled), bool))
    return TwoSampleResult(float(mmd2(blocks.labels[:1])[0]), p)


def classifier_two_sample_test(
    x: ArrayLike,
    y: ArrayLike,
    *,
    rng: np.random.Generator,
    classifier: Any = None,
    folds: int = 5,
    permutations: int = 0,
    block: int = 1,
) -> TwoSampleResult:
    """Can a classifier tell the samples apart? The mean AUC of the folds it did not see.

    AUC = P(score of a y > score of an x) + ½ P(equal): near 0.5 where the samples are alike. The
    classifier chooses where to look, so that it also finds joint drift; which features it uses
    tells what has changed.

    The p-value without permutations: within a fold the rows are exchangeable for a classifier that
    was fitted on others, so each fold has a one-sided Mann–Whitney test (its normal form). Folds
    share training rows, so their p-values depend on each other: twice their mean is a p-value under
    any dependence (Rüschendorf 1982; Vovk and Wang 2020). It is careful; with permutations, where
    the classifier is fitted anew for each, the test is exact, and costs
    (1 + permutations) · folds fits.

    Args:
        x: ``(m, d)``, finite.
        y: ``(n, d)``.
        rng: draws the folds, the permutations, and the default classifier's seed.
        classifier: has scikit-learn's ``fit``, and ``predict_proba`` or ``decision_function``; it
            is cloned. None is a random forest of 100 trees.
        folds: at least 2; each has rows of both samples.
        permutations: 0, or how many.
        block: rows that stay in one fold and move together; above 1 it needs permutations.

    Raises TypeError or ValueError, which says what is wrong.
    """
    from scipy.stats import mannwhitneyu
    from sklearn.base import clone
    from sklearn.ensemble import RandomForestClassifier

    x, y, rng = *_samples(x, y), _checks.generator(rng)
    folds = _checks.count(folds, "folds", least=2)
    permutations = _checks.count(permutations, "permutations", least=0)
    if _checks.count(block, "block") > 1 and permutations == 0:
        raise ValueError("block above 1 needs permutations: rows of a fold are not exchangeable")
    if min(len(x), len(y)) // block < folds:
        raise ValueError(
            f"{folds} folds need as many blocks of {block} rows in each sample: got {len(x)} and "
            f"{len(y)} rows. Use a longer window, fewer folds or a smaller block"
        )
    if classifier is None:
        seed = int(rng.integers(2**31))
        classifier = RandomForestClassifier(100, min_samples_leaf=5, random_state=seed)
    blocks = BlockPermutation(len(x), len(y), block, max(1, permutations), rng)
    pooled = np.concatenate([x[blocks.reference_start :], y[blocks.current_start :]])  # (N, d)

    def tests(labels: NDArray[np.bool_]) -> list[tuple[float, float]]:
        """AUC and p-value of each fold."""
        fold = np.empty(len(labels) // block, int)  # of each block, spread evenly in each sample
        for side in (False, True):
            mine = np.flatnonzero(labels[::block] == side)
            fold[rng.permutation(mine)] = np.arange(len(mine)) % folds
        fold = np.repeat(fold, block)
        found = []
        for k in range(folds):
            fitted = clone(classifier).fit(pooled[fold != k], labels[fold != k])
            score = _scores(fitted, pooled[fold == k])
            now = labels[fold == k]
            U, p = mannwhitneyu(
                score[now], score[~now], alternative="greater", method="asymptotic"
            )
            found.append((U / (now.sum() * (~now).sum()), p))  # AUC = U / (m n)
        return found

    auc, p_values = np.array(tests(blocks.labels[0])).T
    if permutations == 0:
        return TwoSampleResult(float(auc.mean()), min(1.0, 2 * float(p_values.mean())))
    permuted = [np.mean([a for a, _ in tests(labels)]) for labels in blocks.labels[1:]]
    large = np.count_nonzero(np.array(permuted) >= auc.mean() - 1e-12)
    return TwoSampleResult(float(auc.mean()), (1 + large) / (1 + permutations))


def _samples(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = _checks.reals(x, 2, "x"), _checks.reals(y, 2, "y")
    if x.shape[1] != y.shape[1] or x.shape[1] == 0:
        raise ValueError(f"x and y must have the same features: got {x.shape} and {y.shape}")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"x and y need at least 2 rows each: got {len(x)} and {len(y)}")
    return x, y


def _scores(fitted: Any, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    if hasattr(fitted, "predict_proba"):
        return fitted.predict_proba(rows)[:, 1]
    return fitted.decision_function(rows)
