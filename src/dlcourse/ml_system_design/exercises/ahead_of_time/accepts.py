"""123.2b: which inputs may compiled code be given?"""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def accepts(wanted, inputs):
    """Return True where the inputs are what the model was compiled for, else False.

    wanted: a list with (dtype, shape) for each input, such as ("float32", (None, 6)); None is the
    batch: one size for all inputs, at least 1. inputs: a list of arrays.
    """
    if len(inputs) != len(wanted):
        return False
    batch = set()
    for (dtype, shape), x in zip(wanted, inputs):
        if str(x.dtype) != dtype or x.ndim != len(shape):
            return False
        for want, size in zip(shape, x.shape):
            if want is None:
                batch.add(size)
            elif want != size:
                return False
    return len(batch) <= 1 and 0 not in batch


def cases(rng):
    """Two inputs; sometimes of another batch, width or dtype."""
    n = int(rng.integers(1, 4))
    m = n if rng.random() < 0.6 else n + 1
    width = 6 if rng.random() < 0.7 else int(rng.integers(5, 8))
    dtype = "float32" if rng.random() < 0.7 else "float64"
    return {
        "wanted": [("float32", (None, 6)), ("int64", (None,))],
        "inputs": [np.ones((n, width), dtype), np.ones(m, "int64")],
    }


def edges():
    """No input, too few, no rows, a batch in the middle, other ranks, a fixed batch."""
    rows, one = ("float32", (None, 2)), np.ones((1, 2), "float32")
    two = np.ones((2, 2), "float32")

    def many(*shape):
        return ("float32", shape)

    def ones(*shape, dtype="float32"):
        return np.ones(shape, dtype)

    return {
        "a narrower float": {"wanted": [many(None)], "inputs": [ones(2, dtype="float16")]},
        "an integer as wide": {"wanted": [many(None)], "inputs": [ones(2, dtype="int32")]},
        "other byte order": {"wanted": [many(None)], "inputs": [ones(2, dtype=">f4")]},
        "two free axes": {"wanted": [many(None, None)], "inputs": [ones(2, 3)]},
        "no rows, second": {"wanted": [many(2, None)], "inputs": [ones(2, 0)]},
        "a fixed size of none": {"wanted": [many(0, 2)], "inputs": [ones(0, 2)]},
        "no rows of none": {"wanted": [many(None, 0)], "inputs": [ones(0, 0)]},
        "unlike batches apart": {
            "wanted": [many(None), many(3), many(None)],
            "inputs": [ones(2), ones(3), ones(5)],
        },
        "a batch beside a fixed size": {
            "wanted": [many(None, 2), many(5)],
            "inputs": [ones(2, 2), ones(5)],
        },
        "no input": {"wanted": [], "inputs": []},
        "one too few": {"wanted": [rows, rows], "inputs": [two]},
        "one too many": {"wanted": [rows], "inputs": [two, two]},
        "one row": {"wanted": [rows], "inputs": [one]},
        "no rows": {"wanted": [rows], "inputs": [two[:0]]},
        "unlike batches": {"wanted": [rows, rows], "inputs": [two, one]},
        "another dtype": {"wanted": [rows], "inputs": [two.astype("float64")]},
        "no batch axis": {"wanted": [rows], "inputs": [two[0]]},
        "an axis more": {"wanted": [rows], "inputs": [two[..., None]]},
        "fixed sizes": {"wanted": [("float32", (2, 2))], "inputs": [two]},
        "fixed to another": {"wanted": [("float32", (3, 2))], "inputs": [two]},
        "the batch is second": {"wanted": [("float32", (2, None))], "inputs": [two[:, :1]]},
        "a scalar": {"wanted": [("float32", ())], "inputs": [np.ones((), "float32")]},
        "an empty fixed axis": {"wanted": [("float32", (None, 0))], "inputs": [two[:, :0]]},
    }


def listing_no_check(wanted, inputs):
    """The document looks at no input."""
    return True


def rank_ignored(wanted, inputs):
    fits = [d for d, _ in wanted] == [str(x.dtype) for x in inputs]
    batch = {n for (_, s), x in zip(wanted, inputs) for w, n in zip(s, x.shape) if w is None}
    same = all(w in (None, n) for (_, s), x in zip(wanted, inputs) for w, n in zip(s, x.shape))
    return fits and same and len(batch) <= 1 and 0 not in batch


def dtype_ignored(wanted, inputs):
    kinds = [(str(x.dtype), shape) for (_, shape), x in zip(wanted, inputs)]
    return len(inputs) == len(wanted) and accepts(kinds, inputs)


def own_batches(wanted, inputs):
    return len(inputs) == len(wanted) and all(
        accepts([want], [x]) for want, x in zip(wanted, inputs)
    )


def no_rows_too(wanted, inputs):
    grown = [np.ones((1, *x.shape[1:]), x.dtype) if x.shape[:1] == (0,) else x for x in inputs]
    return accepts(wanted, grown)


def count_ignored(wanted, inputs):
    n = min(len(wanted), len(inputs))
    return accepts(wanted[:n], inputs[:n])


EXERCISE = Exercise(
    key="123.2b.accepts",
    title="May compiled code be given this?",
    difficulty="implement",
    statement=r"""
A compiled model reads memory as it was told to. So inputs are checked first, against a list with a
dtype and a shape for each. In a shape, `None` is the batch, on whatever axis it stands: all `None`
of all inputs must have one and the same size, at least 1. Any other axis must have exactly its size
(which may be 0).

Return `True` where number, dtypes and shapes fit, else `False`.
""",
    imports="import numpy as np",
    reference=accepts,
    cases=cases,
    edges=edges,
    hints=[
        "First the number of inputs; `zip` stops at the shorter one without a word.",
        "For each input: dtype, number of axes, then each axis.",
        "Collect the sizes where `None` stands in a set, over all inputs.",
    ],
    mistakes={
        "listing_no_check": Mistake(
            answer=listing_no_check, hint="nothing is checked, as in the document."
        ),
        "rank_ignored": Mistake(
            answer=rank_ignored,
            hint="an axis too many or too few passes: `zip` stops at the shorter shape.",
        ),
        "dtype_ignored": Mistake(
            answer=dtype_ignored, hint="any dtype passes; float64 has other bytes than float32."
        ),
        "own_batches": Mistake(
            answer=own_batches, hint="each input has a batch of its own; they must be equal."
        ),
        "no_rows_too": Mistake(answer=no_rows_too, hint="a batch without rows passes."),
        "count_ignored": Mistake(
            answer=count_ignored, hint="the number of inputs is not compared with what is wanted."
        ),
    },
)
