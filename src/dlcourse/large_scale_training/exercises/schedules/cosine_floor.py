"""119.3: warm-up, cosine and floor, as a multiplier of the rate."""

import math

from dlcourse.exercises import Exercise, Mistake


def cosine_with_floor(step, warmup, total, floor):
    """Return the multiplier of the learning rate at a step.

    step: updates already made. warmup, total: numbers of steps. floor: share of the full rate.
    """
    if step < warmup:
        return step / warmup
    if step >= total:
        return floor
    progress = (step - warmup) / (total - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def cases(rng):
    """A step of the warm-up, of the cosine, or past the end; or the first without a warm-up."""
    if rng.random() < 0.2:
        return {"step": 0, "warmup": 0, "total": 10, "floor": float(rng.uniform(0.05, 0.4))}
    warmup = int(rng.integers(2, 20))
    total = warmup + int(rng.integers(20, 100))
    bounds = [(0, warmup), (warmup, total), (total, 2 * total), (total - 3, total)]
    step = int(rng.integers(*bounds[rng.choice(4, p=[0.25, 0.25, 0.3, 0.2])]))
    return {"step": step, "warmup": warmup, "total": total, "floor": float(rng.uniform(0.05, 0.4))}


def edges():
    """No warm-up, nothing but warm-up, the steps where one case meets the next, floors 0 and 1."""
    usual = {"step": 40, "warmup": 10, "total": 60, "floor": 0.1}
    return {
        "no warm-up, first step": {**usual, "step": 0, "warmup": 0},
        "no warm-up, later": {**usual, "warmup": 0},
        "the first step": {**usual, "step": 0},
        "the end of the warm-up": {**usual, "step": 10},
        "the end": {**usual, "step": 60},
        "long after the end": {**usual, "step": 1000},
        "a warm-up to the end": {**usual, "step": 60, "warmup": 60},
        "a floor of 0": {**usual, "floor": 0.0},
        "a floor of 1": {**usual, "floor": 1.0},
    }


def listing(step, warmup, total, floor):
    """The document's multiplier: a maximum for a floor, and a cosine that rises again."""
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return max(floor, 0.5 * (1 + math.cos(math.pi * progress)))


def cut_off(step, warmup, total, floor):
    return max(floor, cosine_with_floor(step, warmup, total, 0.0))


def rises_again(step, warmup, total, floor):
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / (total - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_counted_in(step, warmup, total, floor):
    if step < warmup:
        return step / warmup
    progress = min(1.0, step / total)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def one_step_early(step, warmup, total, floor):
    return cosine_with_floor(step + 1, warmup, total, floor)


def divides_by_zero(step, warmup, total, floor):
    if step <= warmup:
        return step / warmup
    return cosine_with_floor(step, warmup, total, floor)


EXERCISE = Exercise(
    key="119.3.cosine-floor",
    title="A cosine that stays down",
    difficulty="implement",
    statement=r"""
Write the multiplier of the learning rate: a linear warm-up over $W$ steps, half a cosine down to a
floor $r$ at step $T$, and the floor for ever after. With $k$ updates already made,

$$
m(k) = \begin{cases}
k / W & k < W, \\
r + (1 - r)\,\tfrac12\bigl(1 + \cos \pi p\bigr), \quad p = \frac{k - W}{T - W} & W \le k < T, \\
r & k \ge T .
\end{cases}
$$

A warm-up of 0 steps must work too.
""",
    imports="import math",
    reference=cosine_with_floor,
    cases=cases,
    edges=edges,
    hints=[
        "Three cases, in the order of the formula; the first that applies returns.",
        "With `step < warmup` a warm-up of 0 never divides.",
        "Look at p past the end: it is larger than 1, and the cosine turns up again.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="a maximum stands for the floor, and the cosine rises again past the end: that "
            "is the document's listing. Interpolate between 1 and r, and stay there.",
        ),
        "cut_off": Mistake(
            answer=cut_off,
            hint="the cosine goes to 0 and is cut off at the floor. It should reach the floor "
            "only at the end: scale it by 1 - r and lift it by r.",
        ),
        "rises_again": Mistake(
            answer=rises_again,
            hint="the rate rises again after the last step. A run that goes on longer than "
            "planned must stay at the floor.",
        ),
        "warmup_counted_in": Mistake(
            answer=warmup_counted_in,
            hint="p is counted from step 0. The cosine begins after the warm-up.",
        ),
        "one_step_early": Mistake(
            answer=one_step_early,
            hint="everything comes one step early: k counts the updates already made, so the "
            "first update has k = 0.",
        ),
        "divides_by_zero": Mistake(
            answer=divides_by_zero,
            hint="a warm-up of 0 steps divides by 0. At k = W the warm-up is over.",
        ),
    },
)
