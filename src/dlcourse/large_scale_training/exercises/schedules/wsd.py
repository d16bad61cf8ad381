"""119.3: warm-up, stable phase, decay."""

import math

from dlcourse.exercises import Exercise, Mistake


def wsd_shape(step, warmup, total, decay):
    """Return the multiplier of the learning rate at a step.

    step: updates already made. warmup, decay: steps of the first and last phase, out of total.
    """
    if step >= total:
        return 0.0
    if step < warmup:
        return step / warmup
    if step < total - decay:
        return 1.0
    progress = (step - (total - decay)) / decay
    return 1 - math.sqrt(progress)


def cases(rng):
    """A step of one of the three phases, or past the end."""
    warmup, stable, decay = (int(n) for n in rng.integers(5, 30, size=3))
    total = warmup + stable + decay
    bounds = [0, warmup, total - decay, total, 2 * total]
    phase = int(rng.choice(4, p=[0.2, 0.2, 0.3, 0.3]))
    step = int(rng.integers(bounds[phase] + 1, bounds[phase + 1]))
    return {"step": step, "warmup": warmup, "total": total, "decay": decay}


def edges():
    """Phases of no steps, and the steps where one phase meets the next."""
    usual = {"step": 50, "warmup": 10, "total": 100, "decay": 20}
    return {
        "the first step": {**usual, "step": 0},
        "no warm-up": {**usual, "step": 0, "warmup": 0},
        "the end of the warm-up": {**usual, "step": 10},
        "no stable phase": {**usual, "step": 10, "decay": 90},
        "the decay begins": {**usual, "step": 80},
        "the last step": {**usual, "step": 99},
        "the end": {**usual, "step": 100},
        "long after the end": {**usual, "step": 1000},
        "no decay": {**usual, "step": 99, "decay": 0},
        "no decay, at the end": {**usual, "step": 100, "decay": 0},
    }


def listing(step, warmup, total, decay):
    """The document's WarmupScheduler: a cosine from the end of the warm-up."""
    if step <= warmup:
        return step / max(1, warmup)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def linear_decay(step, warmup, total, decay):
    if step < total - decay:
        return wsd_shape(step, warmup, total, decay)
    return max(0.0, (total - step) / max(1, decay))


def below_zero(step, warmup, total, decay):
    if step < total - decay:
        return wsd_shape(step, warmup, total, decay)
    return 1 - math.sqrt((step - (total - decay)) / max(1, decay))


def decay_from_the_start(step, warmup, total, decay):
    if step < total - decay:
        return wsd_shape(step, warmup, total, decay)
    return 1 - math.sqrt(min(1.0, step / total))


def root_of_the_rest(step, warmup, total, decay):
    if step < total - decay:
        return wsd_shape(step, warmup, total, decay)
    return math.sqrt(max(0.0, (total - step) / max(1, decay)))


EXERCISE = Exercise(
    key="119.3.wsd",
    title="Warm-up, stable, decay",
    difficulty="extend",
    statement=r"""
A run whose length is not known in advance keeps its full rate and decays only at the end. Write the
multiplier with a warm-up of $W$ steps, a stable phase at 1, and over the last $D$ of $T$ steps the
decay $1 - \sqrt{p}$, where $p$ goes from 0 to 1 (Hägele et al., 2024). From
step $T$ on it is 0. A warm-up or a decay of 0 steps must work too.
""",
    imports="import math",
    reference=wsd_shape,
    cases=cases,
    edges=edges,
    hints=[
        "The decay begins at step T - D. Before it, T must not matter at all.",
        "p counts the steps since the decay began, divided by D.",
        "Ask first whether the end is past: then nothing is divided by D = 0 either.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the rate falls along a cosine from the end of the warm-up, as in the document's "
            "WarmupScheduler: there is no stable phase.",
        ),
        "linear_decay": Mistake(
            answer=linear_decay,
            hint="the decay is linear. Here it is 1 minus the square root of p: fast at first.",
        ),
        "below_zero": Mistake(
            answer=below_zero,
            hint="the rate becomes negative past the end, and the training climbs the loss.",
        ),
        "decay_from_the_start": Mistake(
            answer=decay_from_the_start,
            hint="p is counted from step 0. It must be 0 where the decay begins.",
        ),
        "root_of_the_rest": Mistake(
            answer=root_of_the_rest,
            hint="the root of 1 - p is taken, which falls slowly at first. Take 1 minus the root.",
        ),
    },
)
