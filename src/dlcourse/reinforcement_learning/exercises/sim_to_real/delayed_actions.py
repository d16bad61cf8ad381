"""122.1b: which action is in force when actions arrive late."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def in_force(actions, latency, idle):
    """Return the actions in force at each step, (T, n), when each arrives ``latency`` steps late.

    actions: (T, n), as they were given; latency: a whole number from 0 on, which may be larger than
    T; idle: (n,), in force until the first one arrives.
    """
    T = len(actions)
    waits = min(latency, T)
    start = np.repeat(idle[None], waits, axis=0)  # (waits, n)
    return np.concatenate([start, actions[: T - waits]])  # (T, n)


def cases(rng):
    """Some steps late, with an idle action that is not zero."""
    steps, n = int(rng.integers(4, 9)), int(rng.integers(2, 4))
    return {
        "actions": rng.standard_normal((steps, n)),
        "latency": int(rng.integers(1, 4)),
        "idle": rng.standard_normal(n),
    }


def edges():
    """No latency; as late as there are steps; later; one step."""
    actions = np.sin(np.arange(8.0)).reshape(4, 2) + 2
    idle = np.array([0.5, -0.5])
    return {
        "no latency": {"actions": actions, "latency": 0, "idle": idle},
        "as late as there are steps": {"actions": actions, "latency": 4, "idle": idle},
        "later than there are steps": {"actions": actions, "latency": 6, "idle": idle},
        "one step": {"actions": actions[:1], "latency": 1, "idle": idle},
    }


def listing_at_once(actions, latency, idle):
    return actions.copy()


def turned_round(actions, latency, idle):
    return np.roll(actions, latency, axis=0)


def too_early(actions, latency, idle):
    waits = min(latency, len(actions))
    return np.concatenate([actions[waits:], np.repeat(idle[None], waits, axis=0)])


def first_action_waits(actions, latency, idle):
    return in_force(actions, latency, actions[0])


def zero_waits(actions, latency, idle):
    return in_force(actions, latency, np.zeros_like(idle))


def one_step_more(actions, latency, idle):
    return in_force(actions, latency + 1, idle)


EXERCISE = Exercise(
    key="122.1b.delayed-actions",
    title="Actions that arrive late",
    difficulty="implement",
    statement=r"""
A policy gives the action $a_t$ at step $t$. The motor gets it $k$ steps later. Write which action is
in force at each of the $T$ steps: $a_{t-k}$ once there is one, and `idle` before. The latency may be
larger than $T$. Give $T$ rows, and leave the arguments as they are.
""",
    imports="import numpy as np",
    reference=in_force,
    cases=cases,
    edges=edges,
    hints=[
        "The first k rows are idle; then come the actions from the first one on.",
        "The last k actions never arrive within these T steps.",
        "min(latency, T) rows are idle: so a latency above T needs no special case.",
    ],
    mistakes={
        "listing_at_once": Mistake(
            answer=listing_at_once,
            hint="each action is in force at once, as in a simulator without latency.",
        ),
        "turned_round": Mistake(
            answer=turned_round,
            hint="the last actions come in at the start: `roll` turns the array round.",
        ),
        "too_early": Mistake(
            answer=too_early, hint="the actions come early, not late: shift them the other way."
        ),
        "first_action_waits": Mistake(
            answer=first_action_waits,
            hint="the first action is in force before it has arrived: take `idle` there.",
        ),
        "zero_waits": Mistake(
            answer=zero_waits, hint="before the first action `idle` is in force, which may not be 0."
        ),
        "one_step_more": Mistake(
            answer=one_step_more, hint="the actions arrive one step too late: a_t is in force at t + k."
        ),
    },
)
