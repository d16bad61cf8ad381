"""123.1: the newest value that was known at a time."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def newest_known(now, entity, times, entities, values, delay):
    """Return the newest value of the entity that was available at ``now``, or NaN.

    now: a number; entity: an int; times: (n,), whose time each value speaks of, in any order and
    without doubles for an entity; entities: int (n,); values: (n,); delay ≥ 0: how long after its
    time a value is available.
    """
    known = (entities == entity) & (times + delay <= now)
    if not known.any():
        return float("nan")
    return float(values[known][np.argmax(times[known])])


def cases(rng):
    """Two entities with values at whole times, in any order."""
    n = 12
    return {
        "now": int(rng.integers(4, 11)),
        "entity": int(rng.integers(0, 2)),
        "times": np.concatenate([rng.permutation(n // 2 * 2)[: n // 2] for _ in range(2)]),
        "entities": np.repeat([0, 1], n // 2),
        "values": rng.standard_normal(n),
        "delay": int(rng.integers(0, 4)),
    }


def edges():
    """Exactly on time; too late; nothing; another's alone; no delay."""
    usual = {
        "now": 5,
        "entity": 1,
        "times": np.array([7, 3, 4, 0, 5]),
        "entities": np.array([1, 1, 1, 1, 0]),
        "values": np.array([0.7, 0.3, 0.4, 0.1, 0.5]),
        "delay": 1,
    }
    return {
        "available just now": usual,
        "at time zero": {
            **usual, "now": 1, "times": np.array([3, 0]), "entities": np.array([1, 1]),
            "values": np.array([0.3, 0.7]),
        },
        "before time zero": {
            **usual, "now": 1, "times": np.array([3, -5]), "entities": np.array([1, 1]),
            "values": np.array([0.3, 0.7]),
        },
        "a delay of two": {**usual, "delay": 2},
        "no delay": {**usual, "delay": 0},
        "nothing yet": {**usual, "delay": 9},
        "another's value": {**usual, "entity": 2},
    }


def listing_newest_of_all(now, entity, times, entities, values, delay):
    """The document's table has no times: whatever stands there now."""
    own = entities == entity
    return float(values[own][np.argmax(times[own])]) if own.any() else float("nan")


def no_delay(now, entity, times, entities, values, delay):
    return newest_known(now, entity, times, entities, values, 0)


def strictly_before(now, entity, times, entities, values, delay):
    known = (entities == entity) & (times + delay < now)
    return float(values[known][np.argmax(times[known])]) if known.any() else float("nan")


def of_anyone(now, entity, times, entities, values, delay):
    return newest_known(now, 0, times, np.zeros_like(entities), values, delay)


def last_row(now, entity, times, entities, values, delay):
    known = (entities == entity) & (times + delay <= now)
    return float(values[known][-1]) if known.any() else float("nan")


EXERCISE = Exercise(
    key="123.1.newest-known",
    title="What was known then?",
    difficulty="implement",
    statement=r"""
A value speaks of a time $s$ and is available from $s + \text{delay}$ on. Return the newest value of
an entity that was available at the time `now`; one that becomes available exactly then counts. Rows
stand in any order. Where nothing was known, return NaN.
""",
    imports="import numpy as np",
    reference=newest_known,
    cases=cases,
    edges=edges,
    hints=[
        "First mark the rows of the entity that were available.",
        "Of those the newest is the one with the largest time, wherever it stands.",
        "(entities == entity) & (times + delay <= now), then argmax of the times.",
    ],
    mistakes={
        "listing_newest_of_all": Mistake(
            answer=listing_newest_of_all,
            hint="that is the newest value of all, also of times after `now`: the future is in it.",
        ),
        "no_delay": Mistake(
            answer=no_delay, hint="a value is used before it was available: add the delay."
        ),
        "strictly_before": Mistake(
            answer=strictly_before, hint="what becomes available exactly at `now` counts."
        ),
        "of_anyone": Mistake(answer=of_anyone, hint="the value may be of another entity."),
        "last_row": Mistake(
            answer=last_row, hint="the last row in the table is not the newest: look at the times."
        ),
    },
)
