"""123.2b: weights in eight bits."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def int8_weights(w):
    """Return (q, scale): q (rows, columns) int8 and scale (rows,), with w ≈ scale[:, None] · q.

    w: (rows, columns), floats. The largest |w| of a row becomes 127; a row of zeros has scale 1.
    """
    largest = np.abs(w).max(axis=1)  # (rows,)
    scale = np.where(largest > 0, largest / 127, 1.0)
    return np.round(w / scale[:, None]).astype(np.int8), scale


def cases(rng):
    """Rows of very unlike sizes."""
    rows, columns = rng.integers(2, 5), rng.integers(2, 6)
    sizes = 10.0 ** rng.integers(-2, 2, (rows, 1))
    return {"w": rng.standard_normal((rows, columns)) * sizes}


def edges():
    """One weight; zeros; a row of zeros among others; largest negative; equal sides."""
    return {
        "one weight": {"w": np.array([[-0.5]])},
        "all zero": {"w": np.zeros((2, 3))},
        "a row of zeros": {"w": np.array([[0.0, 0.0], [1.0, -0.3]])},
        "the largest is negative": {"w": np.array([[-2.0, 0.7, 0.1], [0.2, -0.9, 0.4]])},
        "square": {"w": np.array([[1.0, 20.0, 0.3], [0.11, 0.2, 0.05], [7.0, -3.0, 2.0]])},
        "positive only": {"w": np.array([[3.0, 2.2, 2.9]])},
        "halves": {"w": np.array([[127.0, 2.5, -2.5, 3.5, 0.5]])},
        "tiny": {"w": np.array([[1e-12, 4e-13]])},
        "rounded up": {"w": np.array([[127.0, 2.9, -2.9, 0.4]])},
    }


def listing_unchanged(w):
    """The document leaves weights in 32 bits."""
    return w, np.ones(len(w))


def one_scale(w):
    """One scale for all rows."""
    scale = np.full(len(w), max(np.abs(w).max() / 127, 1e-300))
    return np.round(w / scale[:, None]).astype(np.int8), scale


def truncated(w):
    scale = int8_weights(w)[1]
    return (w / scale[:, None]).astype(np.int8), scale


def to_128(w):
    scale = int8_weights(w)[1] * 127 / 128
    return np.round(w / scale[:, None]).astype(int).astype(np.int8), scale


def not_absolute(w):
    largest = w.max(axis=1)
    scale = np.where(largest > 0, largest / 127, 1.0)
    return np.clip(np.round(w / scale[:, None]), -128, 127).astype(np.int8), scale


def zero_divides(w):
    with np.errstate(invalid="ignore"):
        scale = np.abs(w).max(axis=1) / 127
        return np.nan_to_num(np.round(w / scale[:, None])).astype(np.int8), scale


def with_zero_point(w):
    low, high = np.minimum(w.min(1), 0), np.maximum(w.max(1), 0)
    scale = np.where(high > low, (high - low) / 254, 1.0)
    return np.clip(np.round(w / scale[:, None]), -127, 127).astype(np.int8), scale


EXERCISE = Exercise(
    key="123.2b.int8-weights",
    title="Weights in eight bits",
    difficulty="implement",
    statement=r"""
Turn weights `w` into int8, row by row: $q_{ij} = \operatorname{round}(w_{ij} / s_i)$ with the scale
$s_i = \max_j |w_{ij}| / 127$, and 1 for a row of zeros. NumPy's `round` is meant, which takes
halves to the even number.

Return `(q, s)`: `q` int8 of the shape of `w`, and `s` of shape `(rows,)`.
""",
    imports="import numpy as np",
    reference=int8_weights,
    cases=cases,
    edges=edges,
    hints=[
        "A row is an output of the layer; each has its own scale.",
        "`np.abs(w).max(axis=1)` is (rows,); `scale[:, None]` makes it a column.",
        "Replace a scale of 0 by 1 before you divide, and round before `astype`.",
    ],
    mistakes={
        "listing_unchanged": Mistake(
            answer=listing_unchanged, hint="the weights stay floats, as in the document."
        ),
        "one_scale": Mistake(
            answer=one_scale, hint="all rows have one scale. Small rows then lose their digits."
        ),
        "truncated": Mistake(
            answer=truncated, hint="`astype` cuts off towards zero: round first."
        ),
        "to_128": Mistake(
            answer=to_128, hint="int8 ends at 127: the largest weight wraps round to −128."
        ),
        "not_absolute": Mistake(
            answer=not_absolute, hint="a row whose largest weight is negative gets a wrong scale."
        ),
        "zero_divides": Mistake(answer=zero_divides, hint="a row of zeros needs the scale 1."),
        "with_zero_point": Mistake(
            answer=with_zero_point,
            hint="the scale is taken from the range; here it is the largest absolute value.",
        ),
    },
)
