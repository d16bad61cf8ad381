"""119.1c: predict what overflow does to the loss scale."""

import torch

from dlcourse.exercises import Mistake, Prediction


def scale_after_three_overflows():
    """Run GradScaler through three steps with infinite gradients and one good one."""
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    for gradient in (float("inf"), float("inf"), float("inf"), 1.0):
        scaler.scale(weight.sum() * 0).backward()  # makes the scaler begin
        weight.grad = torch.tensor([gradient]) * scaler.get_scale()
        scaler.step(optimizer)  # skipped when a gradient is not finite
        scaler.update()
    return scaler.get_scale()


EXERCISE = Prediction(
    key="119.1c.predict-loss-scale",
    title="Three overflows",
    statement=r"""
`torch.amp.GradScaler` begins at the scale 65,536. In the first three steps some gradients overflow
to infinity, in the fourth all are finite. What is the scale after the fourth step?
(The defaults: backoff 0.5, growth 2 after 2,000 good steps in a row.)
""",
    imports="import torch",
    experiment=scale_after_three_overflows,
    discussion=r"""
Each overflow halves the scale and skips the step: $65536 / 2^3 = 8192$. One good step does not make
it grow: that takes 2,000 in a row.
""",
    hints=[
        "What does the scaler do with the step, and with the scale, when a gradient is infinite?",
        "Halve it once for each overflow. When does it grow?",
    ],
    mistakes={
        "listing": Mistake(
            answer=65536,
            hint="the scale is thought to be constant. So it is with bf16, which hardly "
            "overflows, and for which the document makes a scaler all the same.",
        ),
        "once": Mistake(
            answer=32768,
            hint="the scale is halved only once. Every step that overflows halves it.",
        ),
        "grows_at_once": Mistake(
            answer=16384,
            hint="the good step is thought to double the scale. Growth needs 2,000 in a row.",
        ),
        "fourth_halved": Mistake(
            answer=4096,
            hint="the scale is halved four times. The fourth step did not overflow.",
        ),
    },
)
