"""122.1a: the target of a critic, with two kinds of ends."""

import torch

from dlcourse.exercises import Exercise, Mistake


def twin_target(reward, terminated, truncated, q1, q2, gamma):
    """Return what both critics learn towards, (B,).

    reward: (B,); terminated, truncated: bool (B,);
    q1, q2: two target critics at the next state and action, (B,); gamma: a float.
    """
    going_on = 1 - terminated.to(reward.dtype)  # a time limit ends nothing
    return reward + gamma * going_on * torch.minimum(q1, q2)


def cases(rng):
    """Some transitions end in either way, some in both."""
    b = int(rng.integers(4, 9))
    kind = torch.from_numpy(rng.integers(0, 4, b))
    kind[:4] = torch.arange(4)
    reward, q1, q2 = (torch.from_numpy(rng.normal(size=b)) for _ in range(3))
    return {
        "reward": reward, "terminated": (kind == 1) | (kind == 3),
        "truncated": (kind == 2) | (kind == 3), "q1": q1, "q2": q2,
        "gamma": float(rng.uniform(0.5, 0.99)),
    }  # fmt: skip


def edges():
    """One transition of each kind; a discount of 0; negative values; equal critics."""
    one, no, yes = torch.ones(1).double(), torch.tensor([False]), torch.tensor([True])
    usual = {
        "reward": one, "terminated": no, "truncated": no, "q1": 3 * one, "q2": 5 * one,
        "gamma": 0.9,
    }  # fmt: skip
    return {
        "it goes on": usual,
        "it is over": {**usual, "terminated": yes},
        "the time is up": {**usual, "truncated": yes},
        "both": {**usual, "terminated": yes, "truncated": yes},
        "the second is less": {**usual, "q1": 7 * one},
        "negative values": {**usual, "q1": -3 * one, "q2": -5 * one},
        "equal critics": {**usual, "q2": 3 * one},
        "no future": {**usual, "gamma": 0.0},
    }


def listing(reward, terminated, truncated, q1, q2, gamma):
    """The document's: one critic, and any end is an end."""
    return reward + gamma * (~(terminated | truncated)).to(reward.dtype) * q1


def time_limit_ends(reward, terminated, truncated, q1, q2, gamma):
    over = (terminated | truncated).to(reward.dtype)
    return reward + gamma * (1 - over) * torch.minimum(q1, q2)


def never_ends(reward, terminated, truncated, q1, q2, gamma):
    return reward + gamma * torch.minimum(q1, q2)


def mean_of_both(reward, terminated, truncated, q1, q2, gamma):
    return reward + gamma * (1 - terminated.to(reward.dtype)) * (q1 + q2) / 2


def largest(reward, terminated, truncated, q1, q2, gamma):
    return reward + gamma * (1 - terminated.to(reward.dtype)) * torch.maximum(q1, q2)


EXERCISE = Exercise(
    key="122.1a.critic-target",
    title="What does a critic learn towards?",
    difficulty="implement",
    statement=r"""
A transition carries a reward and two flags: `terminated`, the task ended and nothing follows; and
`truncated`, the recording was cut by a time limit. Two target critics give their values of the next
state and action. Write the target of TD3,

$$
y = r + \gamma\, (1 - \text{terminated})\, \min(Q'_1, Q'_2) .
$$
""",
    imports="import torch",
    reference=twin_target,
    cases=cases,
    edges=edges,
    rtol=1e-5,
    atol=1e-6,  # gamma times a bool or float mask is float32 in torch, and no mistake
    hints=[
        "Which of the two flags says that no reward can follow?",
        "`torch.minimum` takes the lesser of two tensors, element by element.",
        "The flags are bool: 1 - flag needs `.to(reward.dtype)`.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="there is one critic only, and a time limit counts as an end, as in the "
            "document's listing.",
        ),
        "time_limit_ends": Mistake(
            answer=time_limit_ends,
            hint="a time limit counts as an end. The task would have gone on: bootstrap there.",
        ),
        "never_ends": Mistake(
            answer=never_ends, hint="a task that terminated still gets a future value."
        ),
        "mean_of_both": Mistake(
            answer=mean_of_both, hint="the mean of both critics is taken: take the lesser."
        ),
        "largest": Mistake(
            answer=largest,
            hint="the larger critic is taken, which makes overestimation worse: take the lesser.",
        ),
    },
)
