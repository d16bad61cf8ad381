"""119.3: extend the stable phase by a decay that begins when somebody asks for the model."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def rates_with_decay(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    """Return the rates of the steps 0, ..., stop_step + decay_steps, as one array.

    stop_step: the step at which the decay begins, perhaps in the warm-up.
    min_lr: a rate, which is reached at the last of the steps.
    """
    steps = np.arange(stop_step + decay_steps + 1)
    stable = base_lr * np.where(steps < num_warmup_steps, steps / max(1, num_warmup_steps), 1.0)
    top = stable[stop_step]  # the rate that has been reached, not the base rate
    progress = np.clip((steps - stop_step) / decay_steps, 0.0, 1.0)
    decay = min_lr + (top - min_lr) * (1 - np.sqrt(progress))
    return np.where(steps < stop_step, stable, decay)


def cases(rng):
    """A stop in the warm-up in every second case or so."""
    warmup = int(rng.integers(6, 14))
    early = rng.random() < 0.5
    base_lr = float(10 ** rng.uniform(-3, 0))
    return {
        "base_lr": base_lr,
        "num_warmup_steps": warmup,
        "stop_step": int(
            rng.integers(2, warmup - 1) if early else rng.integers(warmup, 30)
        ),
        "decay_steps": int(rng.integers(4, 12)),
        "min_lr": base_lr * float(rng.uniform(0.02, 0.1)),
    }


def edges():
    """No warm-up; asked at once, in the middle and at the end of it; a decay of one step."""
    usual = {
        "base_lr": 0.1, "num_warmup_steps": 8, "stop_step": 12, "decay_steps": 5, "min_lr": 0.001
    }  # fmt: skip
    return {
        "no warm-up": {**usual, "num_warmup_steps": 0},
        "no warm-up, asked at once": {**usual, "num_warmup_steps": 0, "stop_step": 0},
        "asked at the end of the warm-up": {**usual, "stop_step": 8},
        "asked in the warm-up": {**usual, "stop_step": 4},
        "asked at once, at rate 0": {**usual, "stop_step": 0},
        "asked below the floor": {**usual, "stop_step": 1, "min_lr": 0.05},
        "a decay of one step": {**usual, "decay_steps": 1},
        "a floor of 0": {**usual, "min_lr": 0.0},
    }


def _decay(base_lr, num_warmup_steps, stop_step, decay_steps, fall):
    """Rates whose decay is ``fall(top, progress)``."""
    steps = np.arange(stop_step + decay_steps + 1)
    stable = base_lr * np.where(steps < num_warmup_steps, steps / max(1, num_warmup_steps), 1.0)
    progress = np.clip((steps - stop_step) / decay_steps, 0.0, 1.0)
    return np.where(steps < stop_step, stable, fall(stable[stop_step], progress))


def listing(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    """The floor as a maximum, as in the document's cosine."""
    return _decay(
        base_lr, num_warmup_steps, stop_step, decay_steps,
        lambda top, p: np.maximum(min_lr, top * (1 - np.sqrt(p))),
    )  # fmt: skip


def from_the_base_rate(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    return _decay(
        base_lr, num_warmup_steps, stop_step, decay_steps,
        lambda top, p: min_lr + (base_lr - min_lr) * (1 - np.sqrt(p)),
    )  # fmt: skip


def linear(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    return _decay(
        base_lr, num_warmup_steps, stop_step, decay_steps,
        lambda top, p: min_lr + (top - min_lr) * (1 - p),
    )  # fmt: skip


def root_of_the_rest(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    return _decay(
        base_lr, num_warmup_steps, stop_step, decay_steps,
        lambda top, p: min_lr + (top - min_lr) * np.sqrt(1 - p),
    )  # fmt: skip


def ratio(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    return _decay(
        base_lr, num_warmup_steps, stop_step, decay_steps,
        lambda top, p: top * (min_lr + (1 - min_lr) * (1 - np.sqrt(p))),
    )  # fmt: skip


def late(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    whole = rates_with_decay(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr)
    return np.insert(whole[:-1], stop_step, whole[stop_step])


EXERCISE = Exercise(
    key="119.3.decay-on-demand",
    title="Decay when somebody asks",
    difficulty="extend",
    statement=r"""
A run warms up linearly over $W$ steps, stays at the base rate, and nobody knows for how long. At
step $s$ somebody asks for the model. From there the rate is to fall, over $D$ steps and along
$1 - \sqrt{p}$, to an *absolute* floor $\eta_{\min}$:

$$
\eta_k = \eta_{\min} + (\eta_s - \eta_{\min})\left(1 - \sqrt{\frac{k - s}{D}}\right),
\qquad s \le k \le s + D ,
$$

where $\eta_s$ is the rate that the run has at step $s$. It may be asked for in the middle of the
warm-up: the rate must not jump then (and where $\eta_s < \eta_{\min}$ it rises to the floor).
$W$ may be 0, $D$ is at least 1. Compute all rates, from step 0 to step $s + D$.
""",
    imports="import numpy as np",
    reference=rates_with_decay,
    cases=cases,
    edges=edges,
    discussion=r"""
In a training loop this is `MultiplierLR` with a multiplier of your own; as long as nobody has
asked, no number in it depends on the end.
""",
    hints=[
        "First compute the rates as if nobody asked, for all steps; then replace those from s on.",
        "The decay begins at the rate that was reached at step s, which in the warm-up is less "
        "than the base rate.",
        "At the last step the progress is 1 and the rate is min_lr, exactly.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the floor is a maximum, as in the document's cosine. Interpolate between the "
            "rate at step s and the floor.",
        ),
        "from_the_base_rate": Mistake(
            answer=from_the_base_rate,
            hint="the decay begins at the base rate. In the warm-up the run is not there yet, "
            "and the rate jumps up.",
        ),
        "linear": Mistake(
            answer=linear,
            hint="the decay is linear. It is one minus the root of the progress.",
        ),
        "root_of_the_rest": Mistake(
            answer=root_of_the_rest,
            hint="this is √(1 - p), which falls late. Wanted is 1 - √p, which falls early.",
        ),
        "ratio": Mistake(
            answer=ratio,
            hint="the floor is taken for a share of the rate. `min_lr` is a rate.",
        ),
        "late": Mistake(
            answer=late,
            hint="the decay is a step late, and never reaches the floor: at k = s the progress "
            "is 0, at k = s + D it is 1.",
        ),
    },
)
