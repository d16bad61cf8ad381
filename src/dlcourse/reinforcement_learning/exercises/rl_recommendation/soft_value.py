"""122.2a: the value of a state under a policy that may not show everything."""

import torch

from dlcourse.exercises import Exercise, Mistake


def masked_soft_value(logits, q, allowed, temperature):
    """Return sum_a pi(a) (q(a) - temperature log pi(a)), a float64 tensor (B,).

    logits, q: float64 (B, A). allowed: bool (B, A), with at least one True in each row. pi is the
    softmax over the allowed items; the others have probability 0 and count nothing.
    """
    log_pi = logits.masked_fill(~allowed, -torch.inf).log_softmax(-1)
    gain = q - temperature * log_pi.masked_fill(~allowed, 0.0)
    return (log_pi.exp() * gain.masked_fill(~allowed, 0.0)).sum(-1)


def cases(rng):
    """Two to four users, three to six items, some hidden."""
    b, a = int(rng.integers(2, 5)), int(rng.integers(3, 7))
    allowed = torch.from_numpy(rng.random((b, a)) < 0.6)
    allowed[:, 0] = True
    return {
        "logits": torch.from_numpy(rng.normal(size=(b, a))),
        "q": torch.from_numpy(rng.normal(size=(b, a)) * 3),
        "allowed": allowed,
        "temperature": float(rng.uniform(0.1, 1)),
    }


def edges():
    """One item left; no temperature; a probability of 0; all allowed; the lowest logits allowed."""
    q = torch.tensor([[1.0, 5.0, -2.0]], dtype=torch.float64)
    logits = torch.tensor([[0.5, 2.0, 0.0]], dtype=torch.float64)
    every = torch.ones(1, 3, dtype=torch.bool)
    one = torch.tensor([[True, False, False]])
    low = torch.tensor([[0.0, 1.0, -2000.0]], dtype=torch.float64)
    far_below = torch.tensor([[-2000.0, -2001.0, 0.0]], dtype=torch.float64)
    two = torch.tensor([[True, True, False]])
    return {
        "one item left": {"logits": logits, "q": q, "allowed": one, "temperature": 0.5},
        "no temperature": {"logits": logits, "q": q, "allowed": every, "temperature": 0.0},
        "probability 0": {"logits": low, "q": q, "allowed": every, "temperature": 0.5},
        "all allowed": {"logits": logits, "q": q, "allowed": every, "temperature": 0.5},
        "the hidden logit is far above": {
            "logits": far_below, "q": q, "allowed": two, "temperature": 0.5
        },
    }  # fmt: skip


def listing(logits, q, allowed, temperature):
    pi = logits.softmax(-1)
    return (pi * (q - temperature * pi.log())).sum(-1)


def hidden_after_softmax(logits, q, allowed, temperature):
    pi = logits.softmax(-1) * allowed
    return (pi * (q - temperature * (pi + 1e-30).log())).sum(-1)


def entropy_with_the_wrong_sign(logits, q, allowed, temperature):
    return masked_soft_value(logits, q, allowed, -temperature)


def no_entropy(logits, q, allowed, temperature):
    return masked_soft_value(logits, q, allowed, 0.0)


def best_item(logits, q, allowed, temperature):
    return q.masked_fill(~allowed, -torch.inf).amax(-1)


EXERCISE = Exercise(
    key="122.2a.soft-value",
    title="A value over the items that are left",
    difficulty="implement",
    statement=r"""
Discrete soft actor-critic needs the value of a state,

$$
V(s) = \sum_a \pi(a \mid s)\,(Q(s, a) - \alpha \log \pi(a \mid s)) .
$$

Items already shown are hidden: $\pi$ is the softmax over the others. Write it for a batch of users.
The result must be finite also where an item has probability 0.
""",
    imports="import torch",
    reference=masked_soft_value,
    cases=cases,
    edges=edges,
    hints=[
        "Hide before the softmax, so that the rest sums to 1. No finite logit hides for sure: the "
        "others may be lower still.",
        "log_softmax gives log π without a log of 0.",
        "0 times −inf is NaN: put 0 in place of log π where an item is hidden.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing, hint="hidden items are not hidden, and log(softmax) can be −inf."
        ),
        "hidden_after_softmax": Mistake(
            answer=hidden_after_softmax,
            hint="the probabilities no longer sum to 1: hide before the softmax.",
        ),
        "entropy_with_the_wrong_sign": Mistake(
            answer=entropy_with_the_wrong_sign,
            hint="the entropy −Σ π log π is a bonus: minus temperature times log π.",
        ),
        "no_entropy": Mistake(answer=no_entropy, hint="the term with the temperature is missing."),
        "best_item": Mistake(
            answer=best_item, hint="that is the best item's value, not the policy's expectation."
        ),
    },
)
