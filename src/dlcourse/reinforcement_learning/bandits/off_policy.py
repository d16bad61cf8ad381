"""The value of one policy from the logs of another (off-policy evaluation).

A log has, for each of n choices, the reward r, the probability p with which the logging policy
took the arm that it took (the propensity), and the probability π with which the target policy
would have taken the same arm. w = π / p is the importance weight.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks


class Estimate(NamedTuple):
    """An estimated mean reward of a policy.

    The interval is normal: value ± z · standard_error. It is wrong where few rewards differ from
    0, or few weights carry the sum: look at ``effective_sample_size``.
    """

    value: float
    standard_error: float
    low: float
    high: float
    effective_sample_size: float


def effective_sample_size(weights: ArrayLike) -> float:
    """(Σ w)² / Σ w²: how many equal weights would average as well (Kish 1965).

    Args:
        weights: ``(n,)``, at least 0, not all 0.

    Raises ValueError for others.
    """
    w = _checks.reals(weights, (None,), "weights")
    if len(w) == 0 or (w < 0).any() or not w.any():
        raise ValueError("weights must be at least 0, and one of them above 0")
    w = w / w.max()  # their scale has no meaning, and squares must not overflow
    return float(w.sum() ** 2 / (w**2).sum())


def importance_weights(
    propensities: ArrayLike, target_probabilities: ArrayLike, *, clip: float | None = None
) -> NDArray[np.float64]:
    """w = π / p for each logged choice, at most ``clip``: ``(n,)``.

    Args:
        propensities: p of the arm that was taken, ``(n,)``, above 0 and at most 1.
        target_probabilities: π of the same arm, ``(n,)``, in [0, 1].
        clip: the largest weight, above 0; None leaves all as they are.

    Raises ValueError, which says what is wrong: a propensity of 0 among it, or one so small that
    its weight is infinite and not clipped.
    """
    p = _checks.reals(propensities, (None,), "propensities")
    pi = _checks.reals(target_probabilities, (len(p),), "target_probabilities")
    if (p <= 0).any() or (p > 1).any():
        raise ValueError(
            f"propensities must be above 0 and at most 1: got {p.min()} to {p.max()}. An arm that "
            "was taken had a probability above 0; log it when the choice is made"
        )
    if (pi < 0).any() or (pi > 1).any():
        raise ValueError(f"target_probabilities must be in [0, 1]: got {pi.min()} to {pi.max()}")
    with np.errstate(over="ignore"):
        w = pi / p
    if clip is not None:
        w = np.minimum(w, _checks.finite(clip, "clip", positive=True))
    if not np.isfinite(w).all():
        i = int(np.flatnonzero(~np.isfinite(w))[0])
        raise ValueError(f"propensities[{i}] is too small for a finite weight: {p[i]}. Use clip")
    return w


def inverse_propensity_score(
    rewards: ArrayLike,
    propensities: ArrayLike,
    target_probabilities: ArrayLike,
    *,
    clip: float | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """IPS: the mean of w · r (Horvitz and Thompson 1952), without bias unless clipped.

    Args:
        rewards: ``(n,)``, n ≥ 2.
        propensities: ``(n,)``, in (0, 1].
        target_probabilities: ``(n,)``, in [0, 1], of the arm that was taken.
        clip: the largest weight: less variance, some bias (Ionides 2008).
        confidence: of the interval, in (0, 1).

    Raises ValueError for other shapes or numbers.
    """
    w = importance_weights(propensities, target_probabilities, clip=clip)
    r = _rewards(rewards, w)
    return _mean(w * r, w, confidence)


def self_normalized_ips(
    rewards: ArrayLike,
    propensities: ArrayLike,
    target_probabilities: ArrayLike,
    *,
    clip: float | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """SNIPS: Σ w r / Σ w (Swaminathan and Joachims 2015); never outside the rewards' range.

    The standard error is that of a ratio (delta method): √(Σ w² (r − V)²) / Σ w. Arguments as of
    ``inverse_propensity_score``; raises ValueError also where all weights are 0.
    """
    w = importance_weights(propensities, target_probabilities, clip=clip)
    r = _rewards(rewards, w)
    if not w.any():
        raise ValueError("all weights are 0: the target policy takes none of the logged arms")
    value = float(w @ r / w.sum())  # V = Σ w r / Σ w
    n = len(r)
    error = float(np.sqrt(n / (n - 1) * (w**2 @ (r - value) ** 2)) / w.sum())
    return _interval(value, error, w, confidence)


def doubly_robust(
    rewards: ArrayLike,
    propensities: ArrayLike,
    target_probabilities: ArrayLike,
    predicted: ArrayLike,
    predicted_value: ArrayLike,
    *,
    clip: float | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """DR: a model's value, corrected by the weighted errors it makes (Dudík et al. 2011).

    The mean of q̂(x, π) + w (r − q̂(x, a)). Without bias if the propensities are right or the model
    is, for a model that was fitted on other rows.

    Args:
        rewards, propensities, target_probabilities, clip, confidence: as of
            ``inverse_propensity_score``.
        predicted: q̂(x, a) of the arm that was taken, ``(n,)``.
        predicted_value: q̂(x, π) = Σ_a π(a | x) q̂(x, a) over all arms, ``(n,)``.
    """
    w = importance_weights(propensities, target_probabilities, clip=clip)
    r = _rewards(rewards, w)
    q = _checks.reals(predicted, (len(w),), "predicted")
    v = _checks.reals(predicted_value, (len(w),), "predicted_value")
    return _mean(v + w * (r - q), w, confidence)


def _rewards(rewards: ArrayLike, weights: NDArray) -> NDArray[np.float64]:
    r = _checks.reals(rewards, (len(weights),), "rewards")
    if len(r) < 2:
        raise ValueError(f"an interval needs at least 2 logged choices: got {len(r)}")
    return r


def _mean(terms: NDArray, weights: NDArray, confidence: float) -> Estimate:
    error = float(terms.std(ddof=1) / np.sqrt(len(terms)))
    return _interval(float(terms.mean()), error, weights, confidence)


def _interval(value: float, error: float, weights: NDArray, confidence: float) -> Estimate:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1: got {confidence!r}")
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    size = effective_sample_size(weights) if weights.any() else 0.0
    return Estimate(value, error, value - half, value + half, size)
