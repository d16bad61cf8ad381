"""123.1: predict what a small batch becomes when it is standardised by itself."""

import numpy as np

from dlcourse.exercises import Mistake, Prediction


def larger_of_two(first=90.0, second=92.0):
    """Return the larger of two rows after the two are standardised by their own statistics."""
    batch = np.array([first, second])
    return round(float(((batch - batch.mean()) / batch.std()).max()), 4)


EXERCISE = Prediction(
    key="123.1.predict-batch",
    title="Two rows, standardised by themselves",
    statement=r"""
In training a feature had the mean 50 and the standard deviation 10. In service two rows arrive,
with 90 and 92. The service does not use what training learned: it fits a standardiser to the two
rows, with the standard deviation that divides by $n$, and transforms them.

What does the model see for the row with 92? Write your prediction down before you run anything;
within 3 % counts as right.
""",
    imports="import numpy as np",
    experiment=larger_of_two,
    rtol=0.03,
    discussion=r"""
The mean of the two is 91, and both are 1 away from it, so the deviation is 1: the model sees −1 and
1, whatever two different values arrive. With training's statistics it would see 4.0 and 4.2, two
rows far above all others.
""",
    hints=[
        "The batch has a mean of its own.",
        "The mean is 91. How far from it are the two rows?",
        "The deviation is the root of (1 + 1) / 2.",
    ],
    mistakes={
        "listing": Mistake(
            answer=0.7071,
            hint="that deviation divides by n − 1, as the document's (pandas') does. Here it "
            "divides by n.",
        ),
        "training": Mistake(
            answer=4.2, hint="that uses training's statistics, as it should be, and is not here."
        ),
        "training_deviation": Mistake(
            answer=0.1, hint="the mean is the batch's, and the deviation is still training's."
        ),
        "training_mean": Mistake(
            answer=42.0, hint="the deviation is the batch's, and the mean is still training's."
        ),
        "range": Mistake(
            answer=0.5, hint="that divides by the range of the batch, not by its deviation."
        ),
    },
)
