"""123.3: how far the shares of bins have moved."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def stability(reference, current, edges, smoothing):
    """Return the population stability index, a float.

    reference: (n,), current: (m,), numbers; edges: (k,), rising inner borders of k + 1 bins, where
    a value equal to a border belongs to the bin below; smoothing: added to each count, above 0.
    """
    shares = []
    for values in (reference, current):
        counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) + smoothing
        shares.append(counts / counts.sum())
    p, q = shares
    return float(((q - p) * np.log(q / p)).sum())


def cases(rng):
    """Two samples of different sizes, one of them moved."""
    n, m = (int(v) for v in rng.integers((20, 10), (40, 20)))
    return {
        "reference": rng.standard_normal(n),
        "current": 0.6 + rng.standard_normal(m),
        "edges": np.sort(rng.uniform(-1.5, 1.5, int(rng.integers(2, 5)))),
        "smoothing": float(rng.choice([0.5, 1.0])),
    }


def edges():
    """The same rows; an empty bin in one; in both; values on a border; one row; one bin."""
    x, border = np.array([0.1, 0.4, 1.2, 2.5, 2.6]), np.array([1.0, 2.0])
    usual = {"reference": x, "current": x[:3], "edges": border, "smoothing": 0.5}
    return {
        "the same rows": {**usual, "current": x},
        "an empty bin in one": {**usual, "current": x[3:]},
        "an empty bin in both": {**usual, "reference": x[:2], "current": x[3:]},
        "values on a border": {**usual, "current": np.array([1.0, 1.0, 2.0])},
        "one row each": {**usual, "reference": x[:1], "current": x[4:]},
        "one bin": {**usual, "edges": np.array([])},
        "little smoothing": {**usual, "current": x[3:], "smoothing": 0.01},
    }


def _shares(values, edges, smoothing, side="left"):
    counts = np.bincount(np.searchsorted(edges, values, side), minlength=len(edges) + 1)
    return (counts + smoothing) / (counts + smoothing).sum()


def listing_counts_no_bins(reference, current, edges, smoothing):
    """The document has no size of a change; one number a sample, the mean, is compared."""
    return float(abs(np.mean(reference) - np.mean(current)))


def one_way(reference, current, edges, smoothing):
    p, q = (_shares(v, edges, smoothing) for v in (reference, current))
    return float((q * np.log(q / p)).sum())


def turned(reference, current, edges, smoothing):
    p, q = (_shares(v, edges, smoothing) for v in (reference, current))
    return float(((q - p) * np.log(p / q)).sum())


def counts_not_shares(reference, current, edges, smoothing):
    p, q = (len(v) * _shares(v, edges, smoothing) for v in (reference, current))
    return float(((q - p) * np.log(q / p)).sum())


def border_above(reference, current, edges, smoothing):
    p, q = (_shares(v, edges, smoothing, "right") for v in (reference, current))
    return float(((q - p) * np.log(q / p)).sum())


def own_smoothing(reference, current, edges, smoothing):
    p, q = (_shares(v, edges, 0.5) for v in (reference, current))
    return float(((q - p) * np.log(q / p)).sum())


def absolute(reference, current, edges, smoothing):
    p, q = (_shares(v, edges, smoothing) for v in (reference, current))
    return float((np.abs(q - p)).sum())


EXERCISE = Exercise(
    key="123.3.stability",
    title="The population stability index",
    difficulty="implement",
    statement=r"""
Count both samples in bins whose inner borders are `edges` (a value equal to a border belongs to the
bin below), add `smoothing` to each count, and turn counts into shares $p_b$ (reference) and $q_b$
(current) that sum to 1. Return

$$ \mathrm{PSI} = \sum_b (q_b - p_b) \ln (q_b / p_b) . $$
""",
    imports="import numpy as np",
    reference=stability,
    cases=cases,
    edges=edges,
    hints=[
        "`np.searchsorted(edges, values)` gives each value's bin.",
        "`np.bincount(…, minlength=len(edges) + 1)` counts empty bins too.",
        "Smooth the counts first, then divide by their sum, so that the shares sum to 1.",
    ],
    mistakes={
        "listing_counts_no_bins": Mistake(
            answer=listing_counts_no_bins,
            hint="that is a difference of means. The document reports no size at all; a mean does "
            "not see a change of spread.",
        ),
        "one_way": Mistake(
            answer=one_way, hint="that is KL one way. The factor is q − p, which adds the other."
        ),
        "turned": Mistake(
            answer=turned, hint="the logarithm is upside down: the index is never below 0."
        ),
        "counts_not_shares": Mistake(
            answer=counts_not_shares,
            hint="counts stand for shares: the index then depends on the number of rows.",
        ),
        "border_above": Mistake(
            answer=border_above, hint="a value equal to a border belongs to the bin below it."
        ),
        "own_smoothing": Mistake(
            answer=own_smoothing, hint="the smoothing is fixed at 0.5. Use the one that is given."
        ),
        "absolute": Mistake(
            answer=absolute, hint="that is the sum of absolute differences; the logarithm is missing."
        ),
    },
)
