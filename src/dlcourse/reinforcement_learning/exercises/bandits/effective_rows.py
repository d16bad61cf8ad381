"""122.2b: how many rows a weighted log is worth."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def effective_rows(propensities, target, clip):
    """Return the effective sample size of a log after clipping, a float.

    propensities, target: (n,), the logging and the target policy's probability of the arm that was
    taken; clip: the largest weight, or None. Weights that are all 0 are worth 0 rows.
    """
    w = target / propensities
    if clip is not None:
        w = np.minimum(w, clip)
    if not w.any():
        return 0.0
    return float(w.sum() ** 2 / (w**2).sum())


def cases(rng):
    """A log with some large weights, clipped or not."""
    n = int(rng.integers(4, 12))
    return {
        "propensities": rng.uniform(0.02, 1, n),
        "target": rng.uniform(0, 1, n),
        "clip": None if rng.random() < 0.3 else float(rng.uniform(0.3, 4)),
    }


def edges():
    """Equal weights; one row; one that is all; all clipped, also to 0; no logged arm is taken."""
    p = np.array([0.5, 0.25, 0.1, 1.0])
    return {
        "the logging policy itself": {"propensities": p, "target": p, "clip": None},
        "one row": {"propensities": p[:1], "target": p[1:2], "clip": None},
        "one row is all": {
            "propensities": p, "target": np.array([0.0, 0.0, 0.9, 0.0]), "clip": None
        },
        "all are clipped": {"propensities": p, "target": np.ones(4), "clip": 0.5},
        "all are clipped to 0": {"propensities": p, "target": np.ones(4), "clip": 0.0},
        "no logged arm is taken": {"propensities": p, "target": np.zeros(4), "clip": None},
        "no logged arm, clipped": {"propensities": p, "target": np.zeros(4), "clip": 2.0},
    }  # fmt: skip


def listing_counts_rows(propensities, target, clip):
    """Without propensities each row counts as one."""
    return float(len(propensities))


def no_clip(propensities, target, clip):
    return effective_rows(propensities, target, None)


def zero_is_no_clip(propensities, target, clip):
    return effective_rows(propensities, target, clip or None)


def inverse(propensities, target, clip):
    return effective_rows(target + 1e-9, propensities, clip) if target.any() else 0.0


def sum_of_weights(propensities, target, clip):
    w = target / propensities
    return float((w if clip is None else np.minimum(w, clip)).sum())


def drops_large(propensities, target, clip):
    w = target / propensities
    w = w if clip is None else w[w <= clip]
    return float(w.sum() ** 2 / (w**2).sum()) if w.any() else 0.0


EXERCISE = Exercise(
    key="122.2b.effective-rows",
    title="What is a log worth?",
    difficulty="extend",
    statement=r"""
Rows of a log have importance weights $w = \pi / p$. Where `clip` is a number, no weight may be
larger. Return the effective sample size $(\sum w)^2 / \sum w^2$. Where all weights are 0, the log
is worth nothing: return 0.
""",
    imports="import numpy as np",
    reference=effective_rows,
    cases=cases,
    edges=edges,
    hints=[
        "First the weights, then the clip, then the formula.",
        "`clip` may be None: then all weights stay. 0 is a number.",
        "0 / 0 is NaN: treat weights that are all 0 before you divide.",
    ],
    mistakes={
        "listing_counts_rows": Mistake(
            answer=listing_counts_rows,
            hint="each row counts as one, as if the target had written the log.",
        ),
        "no_clip": Mistake(answer=no_clip, hint="the weights are not clipped."),
        "zero_is_no_clip": Mistake(
            answer=zero_is_no_clip,
            hint="a clip of 0 counts as none, as with `if clip:`. Ask `clip is not None`.",
        ),
        "inverse": Mistake(
            answer=inverse, hint="the weight is upside down: target over propensity."
        ),
        "sum_of_weights": Mistake(
            answer=sum_of_weights, hint="that is the sum of the weights, near n for any target."
        ),
        "drops_large": Mistake(
            answer=drops_large, hint="large weights are left out. Clipping makes them smaller."
        ),
    },
)
