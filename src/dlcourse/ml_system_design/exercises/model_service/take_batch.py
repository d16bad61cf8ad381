"""123.2a: which requests go next?"""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def take_batch(kinds, arrived, now, size, delay):
    """Return the indices of the next batch, oldest first; an empty list if none may start.

    kinds: list of n texts; arrived: (n,) in s, ascending, none after now; now: in s;
    size: of a batch at most; delay: s that the oldest of a kind waits at most for a full batch.
    """
    queues = {}
    for i, kind in enumerate(kinds):
        queues.setdefault(kind, []).append(i)

    def ready_at(queue):
        return arrived[queue[0]] + (0 if len(queue) >= size else delay)

    best = min(queues.values(), key=ready_at, default=None)
    if best is None or ready_at(best) > now:
        return []
    return best[:size]


def cases(rng):
    """Up to nine requests of three kinds; times are multiples of 1/4, so that sums are exact."""
    n = int(rng.integers(3, 10))
    return {
        "kinds": [str(k) for k in rng.choice(["a", "b", "c"], n)],
        "arrived": np.sort(rng.integers(0, 20, n)) / 4,
        "now": float(rng.integers(20, 28)) / 4,
        "size": int(rng.integers(1, 5)),
        "delay": float(rng.integers(0, 24)) / 4,
    }


def edges():
    """None, one; exactly full; exactly waited; a full kind behind an older one; two that tie."""
    usual = {
        "kinds": ["a", "b", "b", "a", "b"],
        "arrived": np.array([0.0, 1.0, 1.25, 1.5, 2.0]),
        "now": 2.0,
        "size": 3,
        "delay": 5.0,
    }
    return {
        "no request": {**usual, "kinds": [], "arrived": np.zeros(0)},
        "one request, greedy": {
            **usual, "kinds": ["a"], "arrived": np.zeros(1), "now": 0.0, "delay": 0.0
        },
        "a full kind behind an older one": usual,
        "nobody has waited enough": {**usual, "size": 4},
        "exactly waited": {**usual, "size": 4, "delay": 2.0},
        "more than a batch": {**usual, "size": 2, "delay": 0.0},
        "two that tie": {**usual, "kinds": ["b", "a"], "arrived": np.zeros(2), "delay": 1.0},
        "batches of one": {**usual, "size": 1},
    }  # fmt: skip


def listing_full_only(kinds, arrived, now, size, delay):
    """The document starts a batch when it is full, whatever the kinds, and never otherwise."""
    return list(range(size)) if len(kinds) >= size else []


def mixed(kinds, arrived, now, size, delay):
    return take_batch(["a"] * len(kinds), arrived, now, size, delay)


def oldest_kind(kinds, arrived, now, size, delay):
    same = [i for i, kind in enumerate(kinds) if kind == kinds[0]]
    return take_batch(["a"] * len(same), arrived[same], now, size, delay) and same[:size]


def no_bound(kinds, arrived, now, size, delay):
    batch = take_batch(kinds, arrived, now, size, delay)
    return [i for i, kind in enumerate(kinds) if batch and kind == kinds[batch[0]]]


def always_waits(kinds, arrived, now, size, delay):
    if not len(kinds) or arrived[0] + delay > now:
        return []
    return [i for i, kind in enumerate(kinds) if kind == kinds[0]][:size]


def newest_first(kinds, arrived, now, size, delay):
    batch = take_batch(kinds, arrived, now, size, delay)
    return [i for i, kind in enumerate(kinds) if batch and kind == kinds[batch[0]]][-size:]


EXERCISE = Exercise(
    key="123.2a.take-batch",
    title="Take a batch of one kind",
    difficulty="implement",
    statement=r"""
The model is free. Requests wait, in order of arrival, each of a kind (its dtype and shape); only
requests of one kind can be stacked. If `size` or more of a kind wait, the kind's start time is the
arrival of its oldest request; otherwise it is that arrival plus `delay` seconds.

Take the kind with the earliest start time (of two that tie, the one whose oldest request stands
first), and return the indices of its oldest requests, at most `size`. If none may start by `now`,
return an empty list.
""",
    imports="import numpy as np",
    reference=take_batch,
    cases=cases,
    edges=edges,
    hints=[
        "Sort the indices into one list a kind; they stay in order of arrival.",
        "For each list: from when on could it start?",
        "`min(lists, key=ready_at)` takes the first of those that tie.",
    ],
    mistakes={
        "listing_full_only": Mistake(
            answer=listing_full_only,
            hint="a batch starts only when it is full, as in the document: the last requests wait "
            "for ever. And its kinds are mixed.",
        ),
        "mixed": Mistake(answer=mixed, hint="kinds are mixed; they can't be stacked."),
        "oldest_kind": Mistake(
            answer=oldest_kind,
            hint="only the oldest request's kind is looked at. Another may be full already.",
        ),
        "no_bound": Mistake(answer=no_bound, hint="the batch is larger than `size`."),
        "always_waits": Mistake(
            answer=always_waits, hint="a full batch waits for the delay, for no gain."
        ),
        "newest_first": Mistake(
            answer=newest_first, hint="the newest go first, and old ones may wait for ever."
        ),
    },
)
