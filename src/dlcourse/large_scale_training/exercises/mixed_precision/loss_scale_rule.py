"""119.1c: the rule of the dynamic loss scale."""

from dlcourse.exercises import Exercise, Mistake


def run_scaler(overflows, scale, growth_interval):
    """Return the loss scale after the last step, and the number of updates.

    overflows: list of bool, one a step: was any gradient infinite?
    growth_interval: good steps in a row, after which the scale doubles.
    """
    updates = good = 0
    for overflow in overflows:
        if overflow:
            scale, good = scale / 2, 0
            continue
        updates, good = updates + 1, good + 1
        if good == growth_interval:
            scale, good = scale * 2, 0
    return scale, updates


def cases(rng):
    """Some overflows at first, then long good stretches with a lone overflow in between."""
    interval = int(rng.integers(3, 7))
    first = [True] * int(rng.integers(1, 4))
    long = [False] * int(rng.integers(2 * interval, 3 * interval))
    most = [False] * (interval - 1)  # one short of growing, on both sides of an overflow
    overflows = first + long + [True] + most + [True] + most
    scale = float(2 ** rng.integers(8, 17))
    return {"overflows": overflows, "scale": scale, "growth_interval": interval}


def edges():
    """No steps, none that is good or all of them, growth at every step, scales small and large."""
    good, bad = False, True
    return {
        "no steps": {"overflows": [], "scale": 64.0, "growth_interval": 3},
        "every step overflows": {"overflows": [bad] * 9, "scale": 16.0, "growth_interval": 3},
        "no step overflows": {"overflows": [good] * 7, "scale": 16.0, "growth_interval": 3},
        "growth at every good step": {
            "overflows": [good, bad, good, good], "scale": 8.0, "growth_interval": 1
        },
        "a scale far above where it began": {
            "overflows": [good] * 20, "scale": 65536.0, "growth_interval": 1
        },
        "an overflow just after a doubling": {
            "overflows": [good, good, bad, good, good], "scale": 8.0, "growth_interval": 2
        },
        "one step short of growing": {
            "overflows": [good, good], "scale": 8.0, "growth_interval": 3
        },
    }  # fmt: skip


def listing(overflows, scale, growth_interval):
    """The document's step does not say that it was skipped: whoever counts, counts calls."""
    return run_scaler(overflows, scale, growth_interval)[0], len(overflows)


def never_grows(overflows, scale, growth_interval):
    return scale / 2 ** sum(overflows), overflows.count(False)


def not_in_a_row(overflows, scale, growth_interval):
    good = overflows.count(False)
    return scale * 2.0 ** (good // growth_interval - sum(overflows)), good


def grows_every_step(overflows, scale, growth_interval):
    good = 0
    for overflow in overflows:
        good = 0 if overflow else good + 1
        scale = scale / 2 if overflow else scale * (2 if good >= growth_interval else 1)
    return scale, overflows.count(False)


def one_too_late(overflows, scale, growth_interval):
    return run_scaler(overflows, scale, growth_interval + 1)


EXERCISE = Exercise(
    key="119.1c.loss-scale-rule",
    title="The rule of the scale",
    difficulty="implement",
    statement=r"""
Write the rule that `torch.amp.GradScaler` follows. A step in which any gradient overflowed is
skipped, and the scale is halved. After `growth_interval` good steps *in a row* the scale doubles,
and the count begins again. Return the scale at the end, and the number of updates that the
optimizer made: the number that a schedule should know.
""",
    reference=run_scaler,
    cases=cases,
    edges=edges,
    returns=("scale", "updates"),
    discussion=r"""
The scale climbs until something overflows, loses a factor of two, and climbs again: it stays within
a factor of two of the largest value that the gradients allow, at the price of about one skipped
step in each `growth_interval`.
""",
    hints=[
        "Keep two counters: all updates, and the good steps in a row.",
        "Two events set the counter of the row back to 0: an overflow, and a doubling.",
        "A skipped step is not an update.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="skipped steps are counted as updates. So it is with the document's `train_step`, "
            "which does not say that it skipped: a schedule that counts calls runs ahead.",
        ),
        "never_grows": Mistake(
            answer=never_grows,
            hint="the scale only falls. After enough good steps it must be tried higher again.",
        ),
        "not_in_a_row": Mistake(
            answer=not_in_a_row,
            hint="good steps are counted over the whole run. An overflow starts the row anew.",
        ),
        "grows_every_step": Mistake(
            answer=grows_every_step,
            hint="once the row is long enough, the scale doubles at every step. The count begins "
            "again after a doubling.",
        ),
        "one_too_late": Mistake(
            answer=one_too_late,
            hint="the doubling comes one step too late: it belongs to the step that completes the "
            "row.",
        ),
    },
)
