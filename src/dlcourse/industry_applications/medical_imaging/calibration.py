"""Probabilities that mean what they say, and what a decision by them is worth.

Papers:
    Guo et al. (2017), *On calibration of modern neural networks*: temperature scaling.
    Saerens, Latinne and Decaestecker (2002), *Adjusting the outputs of a classifier to new a priori
    probabilities*.
    Vickers and Elkin (2006), *Decision curve analysis*.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from dlcourse.industry_applications.medical_imaging import _checks

#: Temperatures that are looked at. An answer at an end means that the data don't say one.
_COLDEST, _HOTTEST = 0.02, 50.0


class Reliability(NamedTuple):
    """Bins of predictions: their mean, the share of positives among them, and their number."""

    predicted: NDArray[np.float64]  # (B,), NaN in an empty bin
    observed: NDArray[np.float64]  # (B,), NaN in an empty bin
    count: NDArray[np.int64]  # (B,)


class DecisionCurve(NamedTuple):
    """Net benefit of each policy at each threshold probability, in true positives a patient."""

    thresholds: NDArray[np.float64]  # (T,)
    model: NDArray[np.float64]  # (T,)
    treat_all: NDArray[np.float64]  # (T,); to treat nobody is worth 0


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The T > 0 that makes sigmoid(logit / T) most likely on validation cases (Guo et al. 2017).

    T > 1 says that the network was too sure of itself, T < 1 that it was not sure enough. The order
    of the cases stays, and so do AUC, sensitivity and specificity.

    Args:
        logits: ``(N,)`` of the positive class, not probabilities.
        labels: ``(N,)``, 0 or 1, both present.

    Raises:
        ValueError: one class only, or data for which no temperature is best (all are separated).
    """
    values, truth = _checks.scores_and_labels(logits, labels, "logits")
    sign = np.where(truth, 1.0, -1.0)

    def cost(log_temperature: float) -> float:
        return float(np.logaddexp(0, -sign * values / np.exp(log_temperature)).mean())

    ends = np.log(_COLDEST), np.log(_HOTTEST)
    best = minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 1e-8}).x
    if min(best - ends[0], ends[1] - best) < 1e-3:
        raise ValueError(
            "no temperature is best: the logits separate the classes without an error, or say "
            "nothing of them. Take more validation cases, or look at the network"
        )
    return float(np.exp(best))


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> Reliability:
    """Predicted against observed, in bins of equal width over [0, 1].

    Raises ValueError for one class only, values outside [0, 1], or fewer than one bin.
    """
    p, truth = _checks.probabilities_and_labels(probabilities, labels)
    if bins < 1:
        raise ValueError(f"bins must be at least 1: got {bins}")
    which = np.minimum((p * bins).astype(int), bins - 1)  # 1.0 belongs to the last bin
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(which, p, bins) / count
        observed = np.bincount(which, truth, bins) / count
    return Reliability(predicted, observed, count)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15
) -> float:
    """Mean distance of predicted and observed share, weighted by the cases of each bin.

    Of the *positive class's* probability. (Guo et al. 2017 bin the probability of the class that
    is predicted, which is another number.) It is above 0 by chance alone, the more so the fewer
    the cases; compare with labels drawn from the probabilities themselves.

    Raises ValueError as ``reliability`` does.
    """
    predicted, observed, count = reliability(probabilities, labels, bins)
    filled = count > 0
    gaps = np.abs(predicted - observed)[filled]
    return float((gaps * count[filled]).sum() / count.sum())


def decision_curve(
    probabilities: ArrayLike, labels: ArrayLike, thresholds: ArrayLike
) -> DecisionCurve:
    """Net benefit of treating where the probability is ≥ t (Vickers and Elkin 2006).

    Who treats from t on holds t/(1 − t) needless treatments to be as bad as one missed disease:

        net benefit = TP/N − FP/N · t/(1 − t).

    Args:
        probabilities: ``(N,)``, calibrated, of cases with the prevalence of those to be treated.
        labels: ``(N,)``, 0 or 1, both present.
        thresholds: ``(T,)``, in (0, 1).

    Raises:
        ValueError: as ``reliability``, or a threshold outside (0, 1).
    """
    p, truth = _checks.probabilities_and_labels(probabilities, labels)
    t = _checks.row(thresholds, "thresholds")
    if t.min() <= 0 or t.max() >= 1:
        raise ValueError("thresholds must lie between 0 and 1, both left out")
    price = t / (1 - t)
    treated = p[None, :] >= t[:, None]
    model = (treated & truth).mean(1) - (treated & ~truth).mean(1) * price
    return DecisionCurve(t, model, truth.mean() - (~truth).mean() * price)


def adjust_prevalence(
    probabilities: ArrayLike, prevalence: float, new_prevalence: float
) -> NDArray[np.float64]:
    """The same findings in a population with another prevalence: Bayes' rule, on log odds.

    Holds where the prevalence has changed and the look of sick and healthy has not.

    Args:
        probabilities: ``(N,)``, calibrated where the share of positives is ``prevalence``.
        prevalence, new_prevalence: in (0, 1).

    Raises ValueError for a value outside its range.
    """
    p = _checks.row(probabilities, "probabilities")
    if p.min() < 0 or p.max() > 1:
        raise ValueError("probabilities must lie in [0, 1]")
    old = _checks.share(prevalence, "prevalence")
    new = _checks.share(new_prevalence, "new_prevalence")
    with np.errstate(divide="ignore"):
        return expit(logit(p) + logit(new) - logit(old))


def estimate_prevalence(
    probabilities: ArrayLike, prevalence: float, *, steps: int = 200
) -> float:
    """The share of positives among cases *without labels* (Saerens et al. 2002), by EM.

    The mean of the adjusted probabilities is the next guess, until it stays. As
    ``adjust_prevalence`` it trusts that nothing but the prevalence has changed.

    Args:
        probabilities: ``(N,)`` of the new cases, calibrated for ``prevalence``.
        prevalence: of the cases on which the probabilities were calibrated, in (0, 1).

    Raises ValueError for a value outside its range.
    """
    guess = _checks.share(prevalence, "prevalence")
    for _ in range(steps):
        previous = guess
        guess = float(adjust_prevalence(probabilities, prevalence, previous).mean())
        if abs(guess - previous) < 1e-10 or not 0 < guess < 1:
            break
    return guess
