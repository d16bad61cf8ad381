"""123.2a: predict the wait at a busy server."""

from dlcourse.exercises import Mistake, Prediction


def wait_in_service_times(load=0.9):
    """Return the mean wait of M/D/1, in service times (Pollaczek and Khinchine, E[S²] = 1)."""
    return round(load * 1.0 / (2 * (1 - load)), 4)


EXERCISE = Prediction(
    key="123.2a.predict-wait",
    title="How long is the wait at 90 %?",
    statement=r"""
A model answers requests one by one, and each takes exactly 1 ms. Requests come at random (Poisson),
900 a second in the mean.

How many milliseconds does a request wait, in the mean, before its turn comes? Its own 1 ms does not
count. Write your prediction down before you run anything; within 3 % counts as right.
""",
    imports="import numpy as np",
    experiment=wait_in_service_times,
    rtol=0.03,
    discussion=r"""
$\rho = 0.9$ and $\mathbb E[S^2] = 1\,\text{ms}^2$, so
$W = 0.9 \cdot 1 / (2 \cdot 0.1) = 4.5\,\text{ms}$. The model is idle a tenth of the time, and a
caller still waits four and a half calls: idle moments can't be saved for those who come later. With
exponential service times it would be 9 ms.
""",
    hints=[
        "The load ρ is the rate times the service time.",
        "W = λ E[S²] / (2 (1 − ρ)), and S does not vary.",
        "λ = 0.9 per ms, E[S²] = 1 ms², 1 − ρ = 0.1.",
    ],
    mistakes={
        "listing": Mistake(
            answer=0.0,
            hint="you take the queue for empty while the load is below 1. Requests come at random, "
            "so that some come while others are served.",
        ),
        "exponential": Mistake(
            answer=9.0,
            hint="that is M/M/1, with service times that vary. Here each takes exactly 1 ms.",
        ),
        "with_service": Mistake(
            answer=5.5, hint="that is the wait and the service together. Leave out its own 1 ms."
        ),
        "no_rate": Mistake(
            answer=5.0, hint="the rate λ is missing: W = λ E[S²] / (2 (1 − ρ))."
        ),
    },
)
