"""122.2b: predict how an arm's width shrinks."""

import numpy as np

from dlcourse.exercises import Mistake, Prediction


def width_after(pulls=99, ridge=1.0):
    """Return the width in the direction that was seen, over that in one that was not."""
    seen, unseen = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    A = ridge * np.eye(2) + pulls * np.outer(seen, seen)
    widths = [np.sqrt(x @ np.linalg.solve(A, x)) for x in (seen, unseen)]
    return round(float(widths[0] / widths[1]), 4)


EXERCISE = Prediction(
    key="122.2b.predict-width",
    title="What do 99 equal contexts teach?",
    statement=r"""
An arm has been tried 99 times, each time with the context $x = (1, 0)$. The ridge is 1. Its width
is $\sqrt{x^\top A^{-1} x}$ with $A = I + \sum x x^\top$.

How large is the width for the context $(1, 0)$, divided by the width for $(0, 1)$? Write your
prediction down before you run anything; within 3 % counts as right.
""",
    imports="import numpy as np",
    experiment=width_after,
    rtol=0.03,
    discussion=r"""
$A = \operatorname{diag}(100, 1)$, so the widths are $1/\sqrt{100} = 0.1$ and $1$: a ratio of 0.1.
Uncertainty falls with the square root of the number of observations, and only in the directions that
were seen. About $(0, 1)$ nothing was learned, however often the arm was tried.
""",
    hints=[
        "Write A as a 2 × 2 matrix.",
        "A is diagonal: each context was (1, 0), and the ridge adds 1 to both entries.",
        "A = diag(100, 1). The width is a square root.",
    ],
    mistakes={
        "listing": Mistake(
            answer=1.0,
            hint="you count tries without looking at their contexts, so that both directions "
            "shrink alike. They do not: only what was seen shrinks.",
        ),
        "no_root": Mistake(
            answer=0.01, hint="that is the ratio of the variances. The width is their square root."
        ),
        "linear": Mistake(
            answer=100.0, hint="that is the ratio of A's entries. A is inverted, and a root taken."
        ),
        "upside_down": Mistake(
            answer=10.0, hint="the ratio is upside down: seen, divided by unseen."
        ),
    },
)
