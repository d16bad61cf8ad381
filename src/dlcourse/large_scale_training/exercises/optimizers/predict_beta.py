"""119.2: predict what beta2 does, then run it."""

import torch

from dlcourse.exercises import Mistake, Prediction


def steps_until_lion_turns(beta1=0.9, beta2=0.999):
    """Count the steps until Lion's direction follows a gradient that turned."""
    m = torch.tensor(1.0, dtype=torch.float64)  # it was +1 for a long time
    g = torch.tensor(-1.0, dtype=torch.float64)
    steps = 0
    while True:
        steps += 1
        if torch.sign(beta1 * m + (1 - beta1) * g) < 0:
            return steps
        m = beta2 * m + (1 - beta2) * g


EXERCISE = Prediction(
    key="119.2.predict-beta",
    title="What does a longer memory cost?",
    statement=r"""
The gradient of a weight has been $+1$ for so long that Lion's momentum is $m = 1$. Now it turns to
$-1$ and stays there. With $\beta_1 = 0.9$ and $\beta_2 = 0.99$ the direction
$\operatorname{sign}(\beta_1 m + (1-\beta_1) g)$ first points the new way at the 60th step.

How many steps does it take with $\beta_2 = 0.999$? Write your prediction down before you run
anything; within 5 % counts as right.
""",
    imports="import torch",
    experiment=steps_until_lion_turns,
    rtol=0.05,
    discussion=r"""
After $k$ steps with the gradient $-1$ the momentum is $m = 2\beta_2^k - 1$, and the direction turns
at the first step at which $\beta_1 (2\beta_2^{k} - 1) < 1 - \beta_1$, that is
$\beta_2^{k} < 1/(2\beta_1)$, where $k$ counts the steps before it. So
$k > \ln(2\beta_1)/(-\ln\beta_2) \approx \ln(2\beta_1)/(1-\beta_2)$: ten times the memory, ten times
the delay, here 589 steps. During all of them Lion walks the wrong way at full speed.
""",
    hints=[
        "Write the momentum after k steps of gradient -1, starting from 1.",
        "It is 2·beta2^k - 1. When does beta1·m fall below 1 - beta1?",
        "The delay is about ln(2·beta1)/(1 - beta2) steps.",
    ],
    mistakes={
        "listing": Mistake(
            answer=7,
            hint="beta2 is never used and the momentum is made with beta1: that is the document's "
            "listing, which turns at the 7th step whatever beta2 is.",
        ),
        "no_effect": Mistake(
            answer=60,
            hint="beta2 is thought to have no effect. The direction is made with beta1, but from "
            "the momentum, whose memory is beta2's.",
        ),
        "faster": Mistake(
            answer=6,
            hint="the effect is turned round: a larger beta2 is a longer memory.",
        ),
        "at_once": Mistake(
            answer=1,
            hint="the new gradient is thought to win at once. At the first step it has the weight "
            "1 - beta1 = 0.1 against 0.9 for the momentum.",
        ),
        "half_life": Mistake(
            answer=693,
            hint="you wait until the momentum itself changes its sign, at ln 2/(1 - beta2). The "
            "new gradient's own weight, 1 - beta1, makes the direction turn earlier.",
        ),
        "time_constant": Mistake(
            answer=1000,
            hint="you take the time constant 1/(1 - beta2). The momentum need not decay to 1/e "
            "for the direction to turn.",
        ),
    },
)
