"""120.1c: predict how hard a wide block is to guess, then compute it."""

import numpy as np

from dlcourse.exercises import Mistake, Prediction


def mean_square_error(width=32):
    """Fill a hidden block of a random walk from its nearest ends: the mean square error."""
    place = np.arange(1, width + 1)  # of each hidden pixel, counted from the left end
    to_left, to_right = place, width + 1 - place
    # Pixels d apart differ by d steps of variance 1: the mean square is d.
    return float(np.minimum(to_left, to_right).mean())


EXERCISE = Prediction(
    key="120.1c.predict-interpolation",
    title="How much harder is a wider block?",
    statement=r"""
Take a row of pixels as a random walk: neighbours differ by independent steps of mean 0 and
variance 1. A block of pixels is hidden, and what lies left and right of it is visible. Each hidden
pixel is filled with the nearest visible one. For a block 4 pixels wide the mean square error over
its pixels is 1.5.

What is it for a block 32 pixels wide? Write your prediction down before you run anything; within
1 % counts as right.
""",
    imports="import numpy as np",
    experiment=mean_square_error,
    rtol=0.01,
    discussion=r"""
Between pixels that are $d$ apart lie $d$ steps, so their difference has mean square $d$: the mean
square error *is* the mean distance to the nearest visible pixel. In a block of 4 the distances are
1, 2, 2, 1; in a block of 32 they are 1, …, 16, 16, …, 1, with mean 8.5. In general
$(w + 2)/4$ for an even width $w$: it grows with the width, whatever the mask ratio. The brightness
of a real picture is bounded, so there the error flattens out; but it rises first.
""",
    hints=[
        "What is the mean square of the difference between two pixels that are d apart?",
        "It is d. So you need the mean distance to the nearer end of the block.",
        "The distances are 1, 2, …, 16 from the left end, and the same from the right.",
    ],
    mistakes={
        "listing": Mistake(
            answer=1.5,
            hint="the block is taken to be 4 pixels wide, the patch of the document's listing. "
            "Its pixels are at most 2 from something visible; those of the wide block up to 16.",
        ),
        "farthest": Mistake(
            answer=16,
            hint="you take the pixel in the middle, which is hardest. The mean is over all of "
            "them.",
        ),
        "one_sided": Mistake(
            answer=16.5,
            hint="all pixels are filled from one side. The nearer end serves each half of the "
            "block.",
        ),
        "both_ends": Mistake(
            answer=34 / 6,
            hint="you interpolate between both ends, which is the better guess: its error would be "
            "(w + 2)/6. The question copies the nearest pixel.",
        ),
        "proportional": Mistake(
            answer=12,
            hint="the error is multiplied by 32/4. The distances are 1, 2, … and not 1/2, 3/2, …, "
            "so it grows a little less than in proportion.",
        ),
    },
)
