"""119.2: the average that Schedule-Free evaluates, from its sequence z."""

import torch

from dlcourse.exercises import Exercise, Mistake


def schedule_free_average(zs, lrs):
    """Return the averages x_1, ..., x_T of Schedule-Free: (T, d).

    zs: (T, d), the points z_1, ..., z_T.
    lrs: (T,), the rate of each step, all positive.
    """
    x = torch.zeros_like(zs[0])
    weight_sum = 0.0
    xs = []
    for z, lr in zip(zs, lrs):
        weight_sum = weight_sum + lr**2
        c = lr**2 / weight_sum  # 1 at the first step, so x_1 = z_1
        x = (1 - c) * x + c * z
        xs.append(x)
    return torch.stack(xs)


def cases(rng):
    """A random walk, with a warm-up of the rate or with rates that vary."""
    steps, d = (int(n) for n in rng.integers(3, 9, size=2))
    zs = torch.from_numpy(rng.standard_normal((steps, d)).cumsum(axis=0))
    warmup = torch.linspace(0.1, 1.0, steps, dtype=torch.float64)
    varied = torch.from_numpy(rng.uniform(0.2, 2.0, size=steps))
    return {"zs": zs, "lrs": warmup if rng.random() < 0.5 else varied}


def edges():
    """One step, one number, equal rates, and rates that differ by orders of magnitude."""
    zs = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 5.0]], dtype=torch.float64)
    rates = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    return {
        "one step": {"zs": zs[:1], "lrs": rates[:1]},
        "points of one number": {"zs": zs[:, :1], "lrs": rates},
        "equal rates": {"zs": zs, "lrs": torch.full_like(rates, 0.3)},
        "rates that fall": {"zs": zs, "lrs": rates.flip(0)},
        "a tiny first rate": {"zs": zs, "lrs": rates**8},
    }


def listing(zs, lrs):
    """The document's `y`: a moving average whose weights are swapped."""
    x, xs = zs[0].clone(), []
    for z in zs:
        x = (1 - 0.9) * x + 0.9 * z
        xs.append(x)
    return torch.stack(xs)


def equal_weights(zs, lrs):
    return zs.cumsum(0) / torch.arange(1, len(zs) + 1, dtype=zs.dtype)[:, None]


def rates_not_squared(zs, lrs):
    return (lrs[:, None] * zs).cumsum(0) / lrs.cumsum(0)[:, None]


def whole_sum(zs, lrs):
    weights = lrs**2 / (lrs**2).sum()
    x, xs = torch.zeros_like(zs[0]), []
    for z, c in zip(zs, weights):
        x = (1 - c) * x + c * z
        xs.append(x)
    return torch.stack(xs)


def weights_swapped(zs, lrs):
    x, total, xs = zs[0], 0.0, []
    for z, lr in zip(zs, lrs):
        total = total + lr**2
        c = lr**2 / total
        x = c * x + (1 - c) * z
        xs.append(x)
    return torch.stack(xs)


def last_only(zs, lrs):
    return schedule_free_average(zs, lrs)[-1]


EXERCISE = Exercise(
    key="119.2.schedule-free-average",
    title="The average of Schedule-Free",
    difficulty="implement",
    statement=r"""
Schedule-Free evaluates at $x$, an average of the points $z_1, z_2, \dots$ which weights each by
the square of the rate that led to it:

$$
x_t = (1 - c_t)\, x_{t-1} + c_t\, z_t,
\qquad
c_t = \frac{\gamma_t^2}{\sum_{i=1}^{t} \gamma_i^2} .
$$

Compute all of $x_1, \dots, x_T$ from the points $z_t$ and the rates $\gamma_t$. (Why does $x_0$ not
matter?)
""",
    imports="import torch",
    reference=schedule_free_average,
    cases=cases,
    edges=edges,
    hints=[
        "Keep a running sum of the squared rates, and add the rate of this step before dividing.",
        "At the first step c is 1, so whatever x was before has the weight 0.",
        "With equal rates the result must be the plain mean of the points so far: try it.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="this is a moving average with a constant weight, swapped as in the document's "
            "listing. The weight c must fall as the sum grows, or old points are forgotten.",
        ),
        "equal_weights": Mistake(
            answer=equal_weights,
            hint="all points weigh the same. Those of the warm-up, when the rate was small, "
            "must count for less.",
        ),
        "rates_not_squared": Mistake(
            answer=rates_not_squared,
            hint="the weights are the rates. They must be squared.",
        ),
        "whole_sum": Mistake(
            answer=whole_sum,
            hint="the sum runs over all steps. At step t only the rates up to t are known.",
        ),
        "weights_swapped": Mistake(
            answer=weights_swapped,
            hint="the weights are swapped: c belongs to the new point z, 1 - c to the average.",
        ),
        "last_only": Mistake(
            answer=last_only,
            hint="only the last average is returned. Collect x after every step.",
        ),
    },
)
