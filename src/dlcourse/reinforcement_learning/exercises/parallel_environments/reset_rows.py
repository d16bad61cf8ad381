"""122.1c: ended episodes start anew, without a loop."""

import torch

from dlcourse.exercises import Exercise, Mistake


def with_new_starts(state, fresh, age, terminated, limit):
    """Return (state, age, truncated) after a step, with a new start in each row that has ended.

    state, fresh: (N, S), the states reached and first states of new episodes;
    age: int64 (N,), steps of each episode before this one; terminated: bool (N,); limit: an int.
    """
    age = age + 1
    truncated = age >= limit
    ended = terminated | truncated
    state = torch.where(ended[:, None], fresh, state)
    return state, torch.where(ended, 0, age), truncated


def cases(rng):
    """Some terminate, some reach the limit, some do both."""
    n, s = (int(x) for x in rng.integers((6, 2), (12, 5)))
    limit = int(rng.integers(3, 7))
    return {
        "state": torch.from_numpy(rng.standard_normal((n, s))),
        "fresh": torch.from_numpy(rng.standard_normal((n, s))),
        "age": torch.from_numpy(rng.integers(0, limit, n)),
        "terminated": torch.from_numpy(rng.random(n) < 0.3),
        "limit": limit,
    }


def edges():
    """None end, all end, rows as columns, one row, a limit of one step, ages above the limit."""
    state = torch.arange(9, dtype=torch.float64).view(3, 3)
    usual = {
        "state": state, "fresh": -state - 1, "age": torch.tensor([0, 3, 4]),
        "terminated": torch.tensor([True, False, False]), "limit": 5,
    }  # fmt: skip
    return {
        "as many rows as columns": usual,
        "none ends": {**usual, "terminated": torch.zeros(3).bool(), "limit": 100},
        "all terminate": {**usual, "terminated": torch.ones(3).bool()},
        "a limit of one step": {**usual, "age": torch.zeros(3).long(), "limit": 1},
        "ages above the limit": {**usual, "age": torch.tensor([5, 6, 9])},
        "terminated at the limit": {**usual, "terminated": torch.tensor([False, False, True])},
        "one row": {k: v[:1] if torch.is_tensor(v) else v for k, v in usual.items()},
    }


def listing_never_truncates(state, fresh, age, terminated, limit):
    """The loop of many first programs: while not terminated."""
    new = torch.where(terminated[:, None], fresh, state)
    return new, torch.where(terminated, 0, age + 1), torch.zeros_like(terminated)


def exactly_at_the_limit(state, fresh, age, terminated, limit):
    truncated = age + 1 == limit
    ended = terminated | truncated
    return torch.where(ended[:, None], fresh, state), torch.where(ended, 0, age + 1), truncated


def one_step_early(state, fresh, age, terminated, limit):
    return with_new_starts(state, fresh, age, terminated, limit - 1)


def old_ages(state, fresh, age, terminated, limit):
    new, _, truncated = with_new_starts(state, fresh, age, terminated, limit)
    return new, age + 1, truncated


def apart(state, fresh, age, terminated, limit):
    new, age, truncated = with_new_starts(state, fresh, age, terminated, limit)
    return new, age, truncated & ~terminated


def ended_for_truncated(state, fresh, age, terminated, limit):
    new, age, truncated = with_new_starts(state, fresh, age, terminated, limit)
    return new, age, truncated | terminated


def all_start_together(state, fresh, age, terminated, limit):
    _, new_age, truncated = with_new_starts(state, fresh, age, terminated, limit)
    if (terminated | truncated).any():
        return fresh.clone(), torch.zeros_like(new_age), truncated
    return state.clone(), new_age, truncated


EXERCISE = Exercise(
    key="122.1c.reset-rows",
    title="New starts without a loop",
    difficulty="implement",
    statement=r"""
A batch of environments has taken a step: `state` holds the states reached. Add one to each age.
An episode is **truncated** if its age has come to `limit`, or is above it where somebody lowered
the limit, whether or not the episode has also terminated.
Rows of ended episodes take their new state from `fresh`, and the age 0; all others go on. Use no
loop over rows, and leave the arguments as they are.
""",
    imports="import torch",
    reference=with_new_starts,
    cases=cases,
    edges=edges,
    returns=("state", "age", "truncated"),
    hints=[
        "`torch.where(ended[:, None], fresh, state)` chooses row by row.",
        "The age counts this step: add one before you compare it with the limit.",
        "Terminated and truncated may both be true; either one ends the episode.",
    ],
    mistakes={
        "listing_never_truncates": Mistake(
            answer=listing_never_truncates,
            hint="nothing is truncated at the limit, or a step too late: add this step to the age "
            "first, and compare with >=.",
        ),
        "exactly_at_the_limit": Mistake(
            answer=exactly_at_the_limit,
            hint="an age above the limit never ends: compare with >=.",
        ),
        "one_step_early": Mistake(answer=one_step_early, hint="the limit comes one step early."),
        "old_ages": Mistake(
            answer=old_ages, hint="a new episode keeps the age of the old one: set it to 0."
        ),
        "apart": Mistake(
            answer=apart,
            hint="an episode that terminates in its last step is truncated as well: report both.",
        ),
        "ended_for_truncated": Mistake(
            answer=ended_for_truncated,
            hint="you report the ended ones as truncated: termination is another thing.",
        ),
        "all_start_together": Mistake(
            answer=all_start_together,
            hint="one end resets all environments: only ended rows start anew.",
        ),
    },
)
