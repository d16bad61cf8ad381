"""119.3: what a schedule does to the expected loss of a noisy quadratic."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def expected_losses(rates, curvature, noise, start):
    """Return the expected loss before each of the T steps and after the last, of shape (T + 1,).

    rates: (T,), the rate of each step. start: the weight before the first step.
    noise: standard deviation of the gradient's noise.
    """
    square = start**2  # E[w²]
    squares = [square]
    for rate in rates:
        square = (1 - rate * curvature) ** 2 * square + rate**2 * noise**2
        squares.append(square)
    return 0.5 * curvature * np.array(squares)


def cases(rng):
    """Rates that fall, with a warm-up in half of the cases."""
    steps = int(rng.integers(5, 15))
    curvature = float(rng.uniform(0.5, 3.0))
    rates = rng.uniform(0.2, 0.9) / curvature * np.linspace(1.0, 0.1, steps)
    if rng.random() < 0.5:
        rates[:3] = rates[2] * np.array([0.1, 0.4, 0.7])
    return {
        "rates": rates,
        "curvature": curvature,
        "noise": float(rng.uniform(0.3, 2.0)),
        "start": float(rng.uniform(1.0, 5.0)),
    }


def edges():
    """No steps or one; rates of 0; no noise; a weight that begins where the loss is least."""
    usual = {"rates": np.array([0.5, 0.2, 0.1]), "curvature": 1.5, "noise": 0.7, "start": 2.0}
    return {
        "no steps": {**usual, "rates": np.array([])},
        "one step": {**usual, "rates": np.array([0.3])},
        "rates of 0": {**usual, "rates": np.zeros(4)},
        "no noise": {**usual, "noise": 0.0},
        "a start at the minimum": {**usual, "start": 0.0},
        "a start below 0": {**usual, "start": -3.0},
        "steps that overshoot": {**usual, "rates": np.array([1.2, 0.9, 1.0])},
    }


def _losses(rates, curvature, start, square_after):
    squares = [start**2]
    for rate in rates:
        squares.append(square_after(squares[-1], rate))
    return 0.5 * curvature * np.array(squares)


def listing_order(rates, curvature, noise, start):
    """The schedule is stepped before the optimizer, as the listing's counter is."""
    return expected_losses(np.append(rates[1:], rates[-1:]), curvature, noise, start)


def no_noise(rates, curvature, noise, start):
    return expected_losses(rates, curvature, 0.0, start)


def rate_not_squared(rates, curvature, noise, start):
    return _losses(
        rates,
        curvature,
        start,
        lambda s, r: (1 - r * curvature) ** 2 * s + r * noise**2,
    )


def shrinking_not_squared(rates, curvature, noise, start):
    return _losses(
        rates, curvature, start, lambda s, r: (1 - r * curvature) * s + r**2 * noise**2
    )


def noise_not_squared(rates, curvature, noise, start):
    return _losses(
        rates,
        curvature,
        start,
        lambda s, r: (1 - r * curvature) ** 2 * s + r**2 * noise,
    )


def squares_only(rates, curvature, noise, start):
    return expected_losses(rates, curvature, noise, start) / (0.5 * curvature)


def without_start(rates, curvature, noise, start):
    return expected_losses(rates, curvature, noise, start)[1:]


EXERCISE = Exercise(
    key="119.3.expected-losses",
    title="The expected loss under any schedule",
    difficulty="implement",
    statement=r"""
A weight with the loss $\tfrac12 h w^2$ is trained with noisy gradients, at the rates
$\eta_0, \dots, \eta_{T-1}$:

$$
w_{k+1} = w_k - \eta_k\,(h w_k + \sigma \varepsilon_k), \qquad
\mathbb{E}[\varepsilon_k] = 0,\ \mathbb{E}[\varepsilon_k^2] = 1,
$$

with $\varepsilon_k$ independent of $w_k$. Compute $\mathbb{E}[\tfrac12 h w_k^2]$ for
$k = 0, \dots, T$: exactly, without drawing a single random number.
""",
    imports="import numpy as np",
    reference=expected_losses,
    cases=cases,
    edges=edges,
    discussion=r"""
Square the update and take the mean: the mixed term is zero, so that
$\mathbb{E}[w_{k+1}^2] = (1-\eta_k h)^2\,\mathbb{E}[w_k^2] + \eta_k^2\sigma^2$. The first part
forgets the start, the second adds noise. A schedule spends first on the one, then on the other.
""",
    hints=[
        "Follow the mean square of the weight, and turn it into a loss at the end.",
        "Write w' = (1 - rate·h)·w - rate·sigma·eps, square it, and take the mean: the mixed term "
        "is zero.",
        "There are T + 1 losses: one before the first step too.",
    ],
    mistakes={
        "listing_order": Mistake(
            answer=listing_order,
            hint="the first rate is never used: this is the order of a schedule that is stepped "
            "before the optimizer. Step k uses `rates[k]`.",
        ),
        "no_noise": Mistake(
            answer=no_noise,
            hint="only the mean of the weight is followed. The noise adds rate²·noise² at each "
            "step, whatever the weight.",
        ),
        "rate_not_squared": Mistake(
            answer=rate_not_squared,
            hint="the noise enters with the rate. It is a variance: the rate must be squared.",
        ),
        "shrinking_not_squared": Mistake(
            answer=shrinking_not_squared,
            hint="the mean square shrinks by 1 - rate·h. The weight does; its square shrinks by "
            "the square of that.",
        ),
        "noise_not_squared": Mistake(
            answer=noise_not_squared,
            hint="`noise` is a standard deviation: its square is the variance.",
        ),
        "squares_only": Mistake(
            answer=squares_only,
            hint="these are mean squares of the weight. The loss is half the curvature times them.",
        ),
        "without_start": Mistake(
            answer=without_start,
            hint="the loss before the first step is missing: T steps have T + 1 losses.",
        ),
    },
)
