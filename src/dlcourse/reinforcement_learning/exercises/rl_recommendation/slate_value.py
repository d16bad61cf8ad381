"""122.2a: the long-term value of a slate."""

import torch

from dlcourse.exercises import Exercise, Mistake


def long_term_slate_value(scores, minutes, later, none, later_none, discount):
    """Return the value of a slate, a float64 tensor ().

    scores, minutes, later: float64 (k,): attraction v_i > 0 of each item, its mean minutes if it
    is chosen, and the value of the state after it. none: attraction of choosing nothing (> 0),
    which gives no minutes and leads to a state of value later_none.
    """
    total = none + scores.sum()
    chosen = scores / total
    return (chosen * (minutes + discount * later)).sum() + none / total * discount * later_none


def cases(rng):
    """One to five items."""
    k = int(rng.integers(1, 6))
    return {
        "scores": torch.from_numpy(rng.uniform(0.1, 3, k)),
        "minutes": torch.from_numpy(rng.uniform(1, 20, k)),
        "later": torch.from_numpy(rng.uniform(20, 100, k)),
        "none": float(rng.uniform(0.2, 2)),
        "later_none": float(rng.uniform(20, 100)),
        "discount": float(rng.uniform(0.5, 0.95)),
    }


def edges():
    """One item; the end of a session; equal items."""
    one, two = torch.tensor([2.0], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    return {
        "one item": dict(
            scores=one, minutes=5 * one, later=20 * one, none=1.0, later_none=30.0, discount=0.9
        ),
        "end of the session": dict(
            scores=two, minutes=7 * two, later=0 * two, none=1.0, later_none=0.0, discount=1.0
        ),
        "equal items": dict(
            scores=two, minutes=3 * two, later=9 * two, none=0.5, later_none=9.0, discount=0.5
        ),
    }


def listing(scores, minutes, later, none, later_none, discount):
    best = scores.argmax()
    return minutes[best] + discount * later[best]


def always_chosen(scores, minutes, later, none, later_none, discount):
    return (scores / scores.sum() * (minutes + discount * later)).sum()


def session_ends_without_click(scores, minutes, later, none, later_none, discount):
    return (scores / (none + scores.sum()) * (minutes + discount * later)).sum()


def softmax_choice(scores, minutes, later, none, later_none, discount):
    p = torch.cat([scores, torch.tensor([none], dtype=scores.dtype)]).softmax(0)
    return (p[:-1] * (minutes + discount * later)).sum() + p[-1] * discount * later_none


def only_now(scores, minutes, later, none, later_none, discount):
    return (scores / (none + scores.sum()) * minutes).sum()


EXERCISE = Exercise(
    key="122.2a.slate-value",
    title="What a slate is worth",
    difficulty="extend",
    statement=r"""
A user sees a slate of $k$ items and chooses item $i$ with probability
$v_i / (v_0 + \sum_j v_j)$, or nothing with the rest. Item $i$ gives mean minutes $r_i$ and leads to a
state worth $V_i$; choosing nothing gives 0 minutes and leads to a state worth $V_0$. What is the
slate worth, with discount $\gamma$? SlateQ decomposes the value of a slate in this way.
""",
    imports="import torch",
    reference=long_term_slate_value,
    cases=cases,
    edges=edges,
    hints=[
        "Weigh the long-term value of each choice by its probability.",
        "The value of choice i is r_i + γ V_i.",
        "Choosing nothing is a choice too: it has probability v_0 / total and the value γ V_0.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing, hint="one item is scored by itself. A slate offers several."
        ),
        "always_chosen": Mistake(
            answer=always_chosen, hint="the user may choose nothing: v_0 belongs to the total."
        ),
        "session_ends_without_click": Mistake(
            answer=session_ends_without_click,
            hint="after no choice the session goes on, in a state worth V_0.",
        ),
        "softmax_choice": Mistake(
            answer=softmax_choice,
            hint="the v are attractions, not logits: divide them by their sum.",
        ),
        "only_now": Mistake(
            answer=only_now, hint="those are the minutes of now. The value of what follows counts."
        ),
    },
)
