"""123.2c: when is each request done?"""

from dlcourse.exercises import Exercise, Mistake


def last_steps(lengths, slots):
    """Return a list (n,): the step (1, 2, …) at which each request is done, batched continuously.

    lengths: list of n whole numbers ≥ 1, tokens of each request, all waiting at the start in this
    order; slots: ≥ 1. A step makes one token for each request in the batch. Before each step the
    oldest that wait come in, while a slot is free.
    """
    left, done, waiting, step = {}, [0] * len(lengths), list(range(len(lengths))), 0
    while waiting or left:
        while waiting and len(left) < slots:
            i = waiting.pop(0)
            left[i] = lengths[i]
        step += 1
        for i in list(left):
            left[i] -= 1
            if left[i] == 0:
                done[i] = step
                del left[i]
    return done


def cases(rng):
    """Up to ten requests of one to nine tokens, two to four slots."""
    return {
        "lengths": [int(n) for n in rng.integers(1, 10, int(rng.integers(4, 11)))],
        "slots": int(rng.integers(2, 5)),
    }


def edges():
    """None; one slot; more slots than requests; equal lengths; a long one first."""
    return {
        "no request": {"lengths": [], "slots": 2},
        "one slot": {"lengths": [3, 1, 2], "slots": 1},
        "room for all": {"lengths": [3, 1, 2], "slots": 5},
        "equal lengths": {"lengths": [2, 2, 2, 2], "slots": 2},
        "a long one first": {"lengths": [9, 1, 1, 1, 1], "slots": 2},
    }


def listing_static(lengths, slots):
    """A batch starts when the one before is done, as the document's service does."""
    done, begin = [], 0
    for at in range(0, len(lengths), slots):
        batch = lengths[at : at + slots]
        done += [begin + n for n in batch]
        begin += max(batch)
    return done


def one_after_another(lengths, slots):
    return last_steps(lengths, 1)


def a_step_late(lengths, slots):
    free, done = [0] * slots, []
    for n in lengths:
        k = free.index(min(free))
        done.append(free[k] + n)
        free[k] += n + 1  # the slot rests for a step
    return done


def shortest_first(lengths, slots):
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    found = last_steps([lengths[i] for i in order], slots)
    done = [0] * len(lengths)
    for i, step in zip(order, found):
        done[i] = step
    return done


def from_zero(lengths, slots):
    return [step - 1 for step in last_steps(lengths, slots)]


EXERCISE = Exercise(
    key="123.2c.count-steps",
    title="When is each request done?",
    difficulty="extend",
    statement=r"""
All requests wait at the start, in order; request $i$ wants `lengths[i]` tokens. A step makes one token
for each request in the batch, which has `slots` places. With continuous batching, a request leaves
after its last token, and before the next step the oldest that wait take the free places.

Return for each request the step at which it is done; the first step is 1.
""",
    imports="",
    reference=last_steps,
    cases=cases,
    edges=edges,
    hints=[
        "Keep what is left of each request in the batch.",
        "Let requests in before the step, and out after it.",
        "The slot of a request that is done at step s is used again at step s + 1.",
    ],
    mistakes={
        "listing_static": Mistake(
            answer=listing_static,
            hint="the batch waits for its longest request, as in the document. Places that are free "
            "must be used at the next step.",
        ),
        "one_after_another": Mistake(
            answer=one_after_another, hint="one request is served at a time; the batch has more places."
        ),
        "a_step_late": Mistake(
            answer=a_step_late, hint="a free place stays empty for one step. It is used at the next one."
        ),
        "shortest_first": Mistake(
            answer=shortest_first, hint="the shortest come in first. The oldest are asked for."
        ),
        "from_zero": Mistake(answer=from_zero, hint="you count from 0; the first step is step 1."),
    },
)
