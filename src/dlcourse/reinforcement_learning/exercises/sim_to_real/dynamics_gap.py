"""122.1b: the gap between a simulator and the real system."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def dynamics_gap(states, real_next, sim_next):
    """Return the gap of each state component, (n,), without units.

    states: (T, n), real states s; real_next: (T, n), where the real system went from s under an
    action; sim_next: (T, n), where the simulator went from the same s under the same action.
    """
    error = real_next - sim_next  # (T, n)
    change = real_next - states  # (T, n)
    return np.sqrt((error**2).mean(0)) / change.std(0)  # (n,)


def cases(rng):
    """Components of unlike units, and changes with a mean that is not 0."""
    steps, n = int(rng.integers(6, 12)), int(rng.integers(2, 5))
    unit = 10.0 ** rng.uniform(-2, 2, n)
    states = 3 * rng.standard_normal((steps, n)) + 5
    real = states + 0.3 * rng.standard_normal((steps, n)) + 0.2
    sim = real + 0.1 * rng.standard_normal((steps, n)) + 0.05
    return {"states": states * unit, "real_next": real * unit, "sim_next": sim * unit}


def edges():
    """A perfect simulator; one that says that nothing moves; one component."""
    s = np.sin(np.arange(12.0)).reshape(6, 2) * [1.0, 100.0]
    real = s + np.cos(np.arange(12.0)).reshape(6, 2) * [0.1, 1.0]
    return {
        "a perfect simulator": {"states": s, "real_next": real, "sim_next": real.copy()},
        "a simulator in which nothing moves": {
            "states": s, "real_next": real, "sim_next": s.copy()
        },
        "one component": {
            "states": s[:, :1], "real_next": real[:, :1], "sim_next": real[:, :1] + 0.01
        },
    }  # fmt: skip


def listing_mean_over_unlike_units(states, real_next, sim_next):
    return np.full(states.shape[1], np.abs(real_next - sim_next).mean())


def state_against_next(states, real_next, sim_next):
    return np.sqrt(((states - sim_next) ** 2).mean(0)) / (real_next - states).std(0)


def with_units(states, real_next, sim_next):
    return np.sqrt(((real_next - sim_next) ** 2).mean(0))


def by_the_spread_of_states(states, real_next, sim_next):
    return with_units(states, real_next, sim_next) / states.std(0)


def errors_cancel(states, real_next, sim_next):
    return np.abs((real_next - sim_next).mean(0)) / (real_next - states).std(0)


def without_the_mean_error(states, real_next, sim_next):
    return (real_next - sim_next).std(0) / (real_next - states).std(0)


def no_root(states, real_next, sim_next):
    return dynamics_gap(states, real_next, sim_next) ** 2


EXERCISE = Exercise(
    key="122.1b.dynamics-gap",
    title="A gap without units",
    difficulty="implement",
    statement=r"""
Real system and simulator took the same action from the same state. For each component write the root
mean square of $s'_{\text{real}} - s'_{\text{sim}}$, over the standard deviation of the real change
$s'_{\text{real}} - s$ (with $1/T$, as NumPy's default).
""",
    imports="import numpy as np",
    reference=dynamics_gap,
    cases=cases,
    edges=edges,
    hints=[
        "All means run over the first axis: one number for each component.",
        "The unit is what usually changes in one step, not how far the states lie apart.",
        "np.sqrt((error**2).mean(0)) counts a constant error too; error.std(0) does not.",
    ],
    mistakes={
        "listing_mean_over_unlike_units": Mistake(
            answer=listing_mean_over_unlike_units,
            hint="one mean over components of unlike units: the component with the largest numbers "
            "decides.",
        ),
        "state_against_next": Mistake(
            answer=state_against_next,
            hint="the simulator's next state is compared with the state before: compare next states.",
        ),
        "with_units": Mistake(
            answer=with_units, hint="the gap still has the component's unit: divide by the usual change."
        ),
        "by_the_spread_of_states": Mistake(
            answer=by_the_spread_of_states,
            hint="you divide by the spread of the states. A slow system looks perfect so: divide by "
            "the spread of the change.",
        ),
        "errors_cancel": Mistake(
            answer=errors_cancel, hint="errors of opposite sign cancel: square before the mean."
        ),
        "without_the_mean_error": Mistake(
            answer=without_the_mean_error,
            hint="a constant error is not counted: `std` takes the mean away, and a bias is a gap.",
        ),
        "no_root": Mistake(answer=no_root, hint="this is the square of the gap: take the root."),
    },
)
