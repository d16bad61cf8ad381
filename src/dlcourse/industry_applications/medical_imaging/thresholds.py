"""From scores to a decision: a threshold with a promise, and what a positive result means.

Papers:
    Clopper and Pearson (1934), *The use of confidence or fiducial limits illustrated in the case of
    the binomial*.
    Wilks (1941), *Determination of sample sizes for setting tolerance limits*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlcourse.industry_applications.medical_imaging import _checks


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it gave on some cases: positive where the score is ≥ ``threshold``.

    The intervals are exact (Clopper and Pearson), at the level that was asked for.
    """

    threshold: float
    sensitivity: float
    sensitivity_interval: tuple[float, float]
    specificity: float
    specificity_interval: tuple[float, float]
    positives: int
    negatives: int


def binomial_interval(
    successes: int, trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Exact interval of a share, by Clopper and Pearson (1934).

    Each end is the probability at which what was seen, or something more extreme, has a chance of
    (1 − confidence)/2. The interval holds the truth at least as often as ``confidence`` says.

    Raises ValueError for counts that are impossible, or a confidence outside (0, 1).
    """
    k, n, tail = int(successes), int(trials), (1 - _checks.share(confidence, "confidence")) / 2
    if not 0 <= k <= n or n < 1:
        raise ValueError(f"need 0 ≤ successes ≤ trials and a trial: got {successes} of {trials}")
    low = stats.beta.ppf(tail, k, n - k + 1) if k > 0 else 0.0
    high = stats.beta.ppf(1 - tail, k + 1, n - k) if k < n else 1.0
    return float(low), float(high)


def operating_point(
    scores: ArrayLike, labels: ArrayLike, threshold: float, confidence: float = 0.95
) -> OperatingPoint:
    """Sensitivity and specificity of a threshold, with their intervals.

    Args:
        scores: ``(N,)``, larger for what looks more like the disease.
        labels: ``(N,)``, 1 where there is disease, else 0. Both classes must occur.
        threshold: a case is called positive where its score is at least this.
        confidence: of both intervals.

    Raises:
        ValueError: one class only, unequal lengths, or a value that is not finite.
    """
    values, truth = _checks.scores_and_labels(scores, labels)
    called = values >= threshold
    hits, positives = int(called[truth].sum()), int(truth.sum())
    passed, negatives = int((~called[~truth]).sum()), int((~truth).sum())
    return OperatingPoint(
        float(threshold),
        hits / positives,
        binomial_interval(hits, positives, confidence),
        passed / negatives,
        binomial_interval(passed, negatives, confidence),
        positives,
        negatives,
    )


def choose_threshold(
    scores: ArrayLike,
    labels: ArrayLike,
    min_sensitivity: float = 0.95,
    confidence: float = 0.95,
) -> OperatingPoint:
    """The largest threshold whose true sensitivity is ≥ ``min_sensitivity``, with confidence.

    Sort the scores of the n positive cases. Below the k-th smallest lies a random share of all
    positives that are to come, and it exceeds 1 − s with probability P(Bin(n, 1 − s) < k) at most,
    whatever the distribution of the scores (Wilks 1941). So k is the largest number for which this
    is at most 1 − ``confidence``. There is such a k where n is at least
    log(1 − confidence) / log(s): 59 positives for 0.95 and 0.95.

    The promise is about new cases *from the same population* as these. ``confidence=0.5`` is
    about what most texts do, a threshold with sensitivity s on the validation set itself; on new
    cases it falls short about every second time.

    Args:
        scores: ``(N,)`` of validation cases, which trained nothing.
        labels: ``(N,)``, 1 for disease, else 0.
        min_sensitivity: s, in (0, 1).
        confidence: in (0, 1), that s is reached on new cases; also of the intervals returned.

    Returns:
        The threshold, and what it gives on these cases.

    Raises:
        ValueError: one class only, or too few positive cases for such a promise.
    """
    values, truth = _checks.scores_and_labels(scores, labels)
    s = _checks.share(min_sensitivity, "min_sensitivity")
    doubt = 1 - _checks.share(confidence, "confidence")
    found = np.sort(values[truth])
    n = found.size
    k = int(np.sum(stats.binom.cdf(np.arange(n), n, 1 - s) <= doubt))  # P(Bin ≤ k − 1) ≤ doubt
    if k == 0:
        needed = int(np.ceil(np.log(doubt) / np.log(s)))
        raise ValueError(
            f"{n} positive cases can't promise a sensitivity of {s:g} with confidence "
            f"{confidence:g}: collect {needed} or more, or ask for less"
        )
    return operating_point(values, truth, found[k - 1], confidence)


def predictive_values(
    sensitivity: float, specificity: float, prevalence: float
) -> tuple[float, float]:
    """Share of positive results that are right (PPV), and of negative ones (NPV): Bayes' rule.

    Args:
        sensitivity, specificity: in [0, 1].
        prevalence: share of the sick among those who are examined, in [0, 1].

    Returns:
        PPV and NPV; NaN where nobody gets such a result.

    Raises ValueError for a share outside [0, 1].
    """
    shares = {
        "sensitivity": sensitivity, "specificity": specificity, "prevalence": prevalence,
    }  # fmt: skip
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1]: got {value!r}")
    true_positive = sensitivity * prevalence
    false_positive = (1 - specificity) * (1 - prevalence)
    true_negative = specificity * (1 - prevalence)
    false_negative = (1 - sensitivity) * prevalence
    called, passed = true_positive + false_positive, true_negative + false_negative
    return (
        true_positive / called if called else float("nan"),
        true_negative / passed if passed else float("nan"),
    )
