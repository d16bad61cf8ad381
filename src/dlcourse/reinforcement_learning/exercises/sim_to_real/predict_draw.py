"""122.1b: predict how often a drawn factor is below 1."""

import numpy as np

from dlcourse.exercises import Mistake, Prediction


def share_below_one(low=0.5, high=8.0, draws=100_000):
    """Return the share of log-uniform draws between low and high that are below 1."""
    rng = np.random.default_rng(0)
    factors = np.exp(rng.uniform(np.log(low), np.log(high), draws))
    return round(float((factors < 1).mean()), 3)


EXERCISE = Prediction(
    key="122.1b.predict-draw",
    title="How often is the motor too weak?",
    statement=r"""
A motor's gear is randomised by a factor between 0.5 and 8, drawn log-uniformly: its logarithm is
uniform. What share of the episodes has a motor weaker than the nominal one (a factor below 1)?
Write your prediction down before you run anything; within 0.02 counts as right.
""",
    imports="import numpy as np",
    experiment=share_below_one,
    rtol=0.0,
    atol=0.02,
    discussion=r"""
From 0.5 to 8 there are four doublings, and one of them lies below 1: a quarter, 0.25. A uniform draw
would give $0.5/7.5 \approx 0.07$, so weak motors would hardly be seen in training.
""",
    hints=[
        "Count in doublings: equal ratios are equally likely.",
        "log2 of 0.5 is −1, and of 8 it is 3.",
        "One of the four doublings from 0.5 to 8 lies below 1.",
    ],
    mistakes={
        "listing": Mistake(
            answer=0.0667,
            hint="this is a uniform draw of the factor. The document names no distribution; here "
            "the logarithm is uniform.",
        ),
        "half": Mistake(
            answer=0.5,
            hint="half of the draws would be below 1 if the range were symmetric in the logarithm, "
            "as from 1/8 to 8.",
        ),
        "the_other_side": Mistake(answer=0.75, hint="this is the share above 1."),
        "base": Mistake(
            answer=0.125,
            hint="0.5 and 8 are no lengths on the logarithmic axis: take the logarithm of each.",
        ),
    },
)
