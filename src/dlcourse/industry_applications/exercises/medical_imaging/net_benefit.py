"""124.1a: what a decision is worth."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def net_benefit(probabilities, labels, t):
    """Return the net benefit of treating where the probability is at least t.

    probabilities: (N,), labels: (N,), 0 or 1; t in (0, 1). Returns a float.
    """
    treated = probabilities >= t
    found = np.mean(treated & (labels == 1))
    needless = np.mean(treated & (labels == 0))
    return float(found - needless * t / (1 - t))


def cases(rng):
    """Probabilities and labels drawn from them."""
    n = int(rng.integers(8, 30))
    p = np.round(rng.random(n), 2)
    return {
        "probabilities": p,
        "labels": (rng.random(n) < p).astype(int),
        "t": float(rng.choice([0.1, 0.2, 0.4, 0.75])),
    }


def edges():
    """Nobody is treated; all are; a probability at the threshold; no sick; no healthy."""
    p = np.array([0.1, 0.3, 0.5, 0.8])
    y = np.array([0, 1, 0, 1])
    return {
        "nobody is treated": {"probabilities": p, "labels": y, "t": 0.9},
        "all are treated": {"probabilities": p, "labels": y, "t": 0.05},
        "at the threshold": {"probabilities": p, "labels": y, "t": 0.5},
        "no sick": {"probabilities": p, "labels": 0 * y, "t": 0.2},
        "no healthy": {"probabilities": p, "labels": 0 * y + 1, "t": 0.2},
    }


def listing_accuracy(probabilities, labels, t):
    """A decision that weighs both errors alike, as the document's cut does."""
    return float(np.mean((probabilities >= t) == (labels == 1)))


def no_price(probabilities, labels, t):
    treated = probabilities >= t
    return float(np.mean(treated & (labels == 1)) - np.mean(treated & (labels == 0)))


def price_upside_down(probabilities, labels, t):
    treated = probabilities >= t
    needless = np.mean(treated & (labels == 0))
    return float(np.mean(treated & (labels == 1)) - needless * (1 - t) / t)


def price_without_odds(probabilities, labels, t):
    treated = probabilities >= t
    return float(np.mean(treated & (labels == 1)) - np.mean(treated & (labels == 0)) * t)


def above_only(probabilities, labels, t):
    return net_benefit(np.where(probabilities == t, 0.0, probabilities), labels, t)


def counts(probabilities, labels, t):
    return len(labels) * net_benefit(probabilities, labels, t)


EXERCISE = Exercise(
    key="124.1a.net-benefit",
    title="What is a decision worth?",
    difficulty="implement",
    statement=r"""
Return the net benefit of treating everybody whose probability is **at least** $t$,

$$ \mathrm{NB}(t) = \frac{\mathrm{TP}}{N} - \frac{\mathrm{FP}}{N} \cdot \frac{t}{1 - t} , $$

with TP the treated who are sick, FP the treated who are not, and $N$ all cases.
""",
    imports="import numpy as np",
    reference=net_benefit,
    cases=cases,
    edges=edges,
    hints=[
        "Who is treated? Compare with `>=`.",
        "Both counts are divided by N, all cases, treated or not.",
        "A needless treatment costs the odds t / (1 − t).",
    ],
    mistakes={
        "listing_accuracy": Mistake(
            answer=listing_accuracy,
            hint="that is the accuracy: to it a miss and a needless treatment are equally bad.",
        ),
        "no_price": Mistake(answer=no_price, hint="the price t / (1 − t) is missing."),
        "price_upside_down": Mistake(
            answer=price_upside_down, hint="the price is upside down: it is small for small t."
        ),
        "price_without_odds": Mistake(
            answer=price_without_odds, hint="the price is the odds t / (1 − t), not t."
        ),
        "above_only": Mistake(
            answer=above_only, hint="who lies at t exactly is treated too."
        ),
        "counts": Mistake(answer=counts, hint="those are counts. Divide by N, all cases."),
    },
)
