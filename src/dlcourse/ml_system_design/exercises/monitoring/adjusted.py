"""123.3: p-values that speak of the whole report."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def adjusted(p):
    """Return Benjamini and Hochberg's adjusted p-values (m,), in the order of p.

    p: (m,), in [0, 1], in any order; m may be 0.
    """
    m = len(p)
    order = np.argsort(p)
    q = np.minimum.accumulate((m * p[order] / np.arange(1, m + 1))[::-1])[::-1]
    result = np.empty(m)
    result[order] = q
    return result


def cases(rng):
    """Some small p-values among others, not sorted."""
    m = int(rng.integers(5, 12))
    p = rng.random(m)
    p[: m // 3] **= 6
    return {"p": rng.permutation(p)}


def edges():
    """One; none; all equal; a later one that lowers an earlier one; zeros and ones."""
    return {
        "one": {"p": np.array([0.3])},
        "none": {"p": np.array([])},
        "all equal": {"p": np.full(4, 0.04)},
        "a later one lowers an earlier": {"p": np.array([0.04, 0.041, 0.042, 0.9])},
        "in falling order": {"p": np.array([0.9, 0.5, 0.02, 0.001])},
        "zeros and ones": {"p": np.array([1.0, 0.0, 1.0, 0.5])},
    }


def listing_leaves_them(p):
    """The document compares each p-value with 0.05 as it is."""
    return np.array(p, float)


def bonferroni(p):
    return np.minimum(1.0, len(p) * p)


def no_minimum(p):
    m, order = len(p), np.argsort(p)
    result = np.empty(m)
    result[order] = np.minimum(1.0, m * p[order] / np.arange(1, m + 1))
    return result


def minimum_from_below(p):
    m, order = len(p), np.argsort(p)
    result = np.empty(m)
    result[order] = np.minimum.accumulate(m * p[order] / np.arange(1, m + 1))
    return result


def left_sorted(p):
    return np.sort(adjusted(p))


def rank_from_zero(p):
    m, order = len(p), np.argsort(p)
    q = np.minimum.accumulate((m * p[order] / np.maximum(1, np.arange(m)))[::-1])[::-1]
    result = np.empty(m)
    result[order] = np.minimum(1.0, q)
    return result


EXERCISE = Exercise(
    key="123.3.adjusted",
    title="Correct a hundred p-values together",
    difficulty="implement",
    statement=r"""
Return the adjusted p-values of Benjamini and Hochberg: with $p_{(1)} \le \dots \le p_{(m)}$,

$$ q_{(i)} = \min_{j \ge i} \frac{m}{j}\, p_{(j)} , $$

each at the place of its p-value. The p-values come in any order, and there may be none.
""",
    imports="import numpy as np",
    reference=adjusted,
    cases=cases,
    edges=edges,
    hints=[
        "Sort with `np.argsort`, and put the results back at the places that it gives.",
        "The rank j begins at 1.",
        "The minimum over all j ≥ i: `np.minimum.accumulate` of the reversed array, reversed.",
    ],
    mistakes={
        "listing_leaves_them": Mistake(
            answer=listing_leaves_them,
            hint="the p-values are as they were. The document compares them so, and alarms in "
            "nearly every window of 100 features.",
        ),
        "bonferroni": Mistake(
            answer=bonferroni, hint="that is Bonferroni: each is multiplied by m, whatever its rank."
        ),
        "no_minimum": Mistake(
            answer=no_minimum,
            hint="the running minimum is missing: a larger p-value may get a smaller q.",
        ),
        "minimum_from_below": Mistake(
            answer=minimum_from_below,
            hint="the minimum runs from the smallest p-value up. It is over j ≥ i.",
        ),
        "left_sorted": Mistake(
            answer=left_sorted, hint="the results are sorted. Each belongs to its own feature."
        ),
        "rank_from_zero": Mistake(
            answer=rank_from_zero, hint="ranks begin at 1: the smallest p-value is times m / 1."
        ),
    },
)
