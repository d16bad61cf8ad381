"""124.1a: a threshold for a sensitivity."""

import math

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def largest_threshold(scores, labels, sensitivity):
    """Return the largest of the scores of sick cases that still finds this share of the sick.

    scores: (N,); labels: (N,), 1 for sick, at least one; sensitivity in (0, 1]. A case is called
    positive where its score is at least the threshold. Returns a float.
    """
    sick = scores[labels == 1]
    return float(max(t for t in sick if np.mean(sick >= t) >= sensitivity))


def cases(rng):
    """Scores of sick and healthy that overlap."""
    n = int(rng.integers(12, 40))
    labels = (rng.random(n) < 0.5).astype(int)
    labels[:2] = 1, 0
    return {
        "scores": np.round(rng.standard_normal(n) + labels, 2),
        "labels": labels,
        "sensitivity": float(rng.choice([0.5, 0.7, 0.8, 0.9])),
    }


def edges():
    """All must be found; one sick case; equal scores; a share that divides exactly."""
    ten = np.arange(10) / 10
    return {
        "all must be found": {
            "scores": np.array([0.4, 0.2, 0.9, 0.1]),
            "labels": np.array([1, 1, 1, 0]),
            "sensitivity": 1.0,
        },
        "one sick case": {
            "scores": np.array([0.3, 0.8]), "labels": np.array([1, 0]), "sensitivity": 0.5,
        },
        "equal scores": {
            "scores": np.array([0.5, 0.5, 0.5, 0.7]),
            "labels": np.array([1, 1, 1, 1]),
            "sensitivity": 0.75,
        },
        "nine of ten": {
            "scores": np.append(ten, 0.95), "labels": np.append(np.ones(10, int), 0),
            "sensitivity": 0.9,
        },
        "a half of ten": {
            "scores": np.append(ten, -1.0), "labels": np.append(np.ones(10, int), 0),
            "sensitivity": 0.5,
        },
    }  # fmt: skip


def listing_the_sensitivity_itself(scores, labels, sensitivity):
    """The document cuts at the sensitivity that it wants."""
    return float(sensitivity)


def of_all_cases(scores, labels, sensitivity):
    return largest_threshold(scores, np.ones_like(labels), sensitivity)


def of_the_healthy(scores, labels, sensitivity):
    chosen = labels if (labels == 1).all() else 1 - labels
    return largest_threshold(scores, chosen, sensitivity)


def one_more_is_missed(scores, labels, sensitivity):
    sick = np.sort(scores[labels == 1])
    missed = len(sick) - math.ceil(sensitivity * len(sick)) + 1
    return float(sick[min(missed, len(sick) - 1)])


def from_the_wrong_end(scores, labels, sensitivity):
    sick = np.sort(scores[labels == 1])[::-1]
    return float(sick[len(sick) - math.ceil(sensitivity * len(sick))])


def interpolated(scores, labels, sensitivity):
    return float(np.quantile(scores[labels == 1], 1 - sensitivity))


EXERCISE = Exercise(
    key="124.1a.threshold",
    title="A threshold for a sensitivity",
    difficulty="implement",
    statement=r"""
Return the largest score of a sick case which, taken as the threshold, finds at least the share
`sensitivity` of the sick cases given. A case is called positive where its score is **at least** the
threshold. (No promise about new cases: this is what most texts do.)
""",
    imports="import math\nimport numpy as np",
    reference=largest_threshold,
    cases=cases,
    edges=edges,
    hints=[
        "Only the sick cases decide. Sort their scores.",
        "Each score of a sick case is a candidate: which share of the sick does it find?",
        "Take the largest that finds enough. If you count the missed ones instead, mind that "
        "10 * (1 - 0.9) is a little less than 1.",
    ],
    mistakes={
        "listing_the_sensitivity_itself": Mistake(
            answer=listing_the_sensitivity_itself,
            hint="that is the wanted sensitivity. As a cut of scores it means nothing.",
        ),
        "of_all_cases": Mistake(
            answer=of_all_cases, hint="sensitivity is a share of the sick alone."
        ),
        "of_the_healthy": Mistake(
            answer=of_the_healthy, hint="those are the healthy cases' scores."
        ),
        "one_more_is_missed": Mistake(
            answer=one_more_is_missed, hint="the threshold is one case too high."
        ),
        "from_the_wrong_end": Mistake(
            answer=from_the_wrong_end, hint="the missed ones are those with the *lowest* scores."
        ),
        "interpolated": Mistake(
            answer=interpolated,
            hint="a value between two scores finds fewer, or is no case's score: take a case's.",
        ),
    },
)
