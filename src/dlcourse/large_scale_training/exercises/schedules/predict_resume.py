"""119.3: predict the rate after a resume that forgot the scheduler."""

import torch

from dlcourse.exercises import Mistake, Prediction


def rate_of_second_update_after_resume():
    """Train 25 steps, resume without the scheduler's state, and return the second update's rate."""

    def begin():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        return optimizer, lambda k: min(1.0, k / 10)

    optimizer, ramp = begin()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, ramp)
    for _ in range(25):
        optimizer.step()
        scheduler.step()
    checkpoint = optimizer.state_dict()  # ... and the model's, but not the scheduler's

    optimizer, ramp = begin()
    optimizer.load_state_dict(checkpoint)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, ramp)
    optimizer.step()
    scheduler.step()
    return round(optimizer.param_groups[0]["lr"], 6)


EXERCISE = Prediction(
    key="119.3.predict-resume",
    title="The forgotten scheduler",
    statement=r"""
A run warms up over 10 steps to the rate 0.1, with
`LambdaLR(optimizer, lambda k: min(1.0, k / 10))`, and each loop calls `optimizer.step()`, then
`scheduler.step()`. After 25 updates it saves model and optimizer, but not the scheduler. A new
process loads both and makes a new scheduler in the same way.

With which rate is the *second* update after the resume made?
""",
    imports="import torch",
    experiment=rate_of_second_update_after_resume,
    discussion=r"""
A new scheduler begins at $k = 0$ whatever the optimizer loaded, and sets the rate to 0 when it is
made: the first update after the resume does nothing, the second uses $0.1 \cdot 1/10 = 0.01$. The
warm-up is run again; a cosine would begin again too. Save and load `scheduler.state_dict()`.
""",
    hints=[
        "What is k in a scheduler that was just made? Does it know of the 25 updates?",
        "The scheduler sets the rate when it is made, and after each of its steps.",
    ],
    mistakes={
        "listing": Mistake(
            answer=0.1,
            hint="the run is thought to go on at the full rate. The scheduler's position was not "
            "saved, as in the document's checkpoint, so its warm-up begins again.",
        ),
        "off_by_one": Mistake(
            answer=0.02,
            hint="you count from k = 1. The first update has k = 0, and with it the rate 0.",
        ),
        "first_update": Mistake(
            answer=0.0,
            hint="you give the rate of the first update after the resume; the second comes after "
            "one `scheduler.step()`.",
        ),
        "extrapolated": Mistake(
            answer=0.26,
            hint="the ramp is continued beyond its 10 steps. It is bounded by 1, and besides it "
            "begins again.",
        ),
    },
)
