"""120.1b: Sinkhorn-Knopp, written out."""

import torch

from dlcourse.exercises import Exercise, Mistake


def sinkhorn(logits, temperature, iterations):
    """Return soft assignments (B, K): rows sum to 1, columns have nearly equal sums.

    In each iteration the columns are scaled first, then the rows.
    """
    x = logits / temperature
    q = (x - x.max()).exp()  # one constant for all: no overflow, same result
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True)  # columns
        q = q / q.sum(1, keepdim=True)  # rows
    return q


def cases(rng):
    """Scores between -1 and 1, as a head gives them, mostly moved to 1,000; two to four rounds."""
    shape = (int(rng.integers(3, 7)), int(rng.integers(3, 6)))
    far = 1000.0 if rng.random() < 0.8 else 0.0
    return {
        "logits": torch.from_numpy(rng.uniform(-1, 1, shape)) + far,
        "temperature": float(rng.uniform(0.1, 0.5)),
        "iterations": int(rng.integers(2, 5)),
    }


def edges():
    """One round, one image, one prototype, and scores where exp overflows or underflows."""
    logits = torch.tensor(
        [[0.1, 0.9, -0.4], [-0.8, 0.2, 0.6], [0.7, -0.1, 0.0], [0.3, 0.3, -0.9]],
        dtype=torch.float64,
    )
    rest = {"temperature": 0.2, "iterations": 3}
    return {
        "one round": {"logits": logits, "temperature": 0.2, "iterations": 1},
        "many rounds": {"logits": logits, "temperature": 0.2, "iterations": 30},
        "one image": {"logits": logits[:1], **rest},
        "one prototype": {"logits": logits[:, :1], **rest},
        "as many images as prototypes": {"logits": logits[:3], **rest},
        "scores around 1,000": {"logits": logits + 1000, **rest},
        "scores around -1,000": {"logits": logits - 1000, **rest},
        "a temperature of 1": {"logits": logits, "temperature": 1.0, "iterations": 2},
    }


def listing(logits, temperature, iterations):
    """The document has no Sinkhorn-Knopp: a softmax."""
    return torch.softmax(logits / temperature, dim=1)


def overflows(logits, temperature, iterations):
    q = (logits / temperature).exp()
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True)
        q = q / q.sum(1, keepdim=True)
    return q


def rows_first(logits, temperature, iterations):
    q = ((logits - logits.max()) / temperature).exp()
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True)
        q = q / q.sum(0, keepdim=True)
    return q


def once(logits, temperature, iterations):
    return sinkhorn(logits, temperature, 1)


def no_temperature(logits, temperature, iterations):
    return sinkhorn(logits, 1.0, iterations)


def sums_to_one_in_all(logits, temperature, iterations):
    return sinkhorn(logits, temperature, iterations) / len(logits)


def rows_shifted(logits, temperature, iterations):
    x = logits / temperature
    q = (x - x.max(1, keepdim=True).values).exp()
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True)
        q = q / q.sum(1, keepdim=True)
    return q


EXERCISE = Exercise(
    key="120.1b.sinkhorn",
    title="Sinkhorn–Knopp",
    difficulty="implement",
    statement=r"""
Turn the teacher's scores for a batch, (B, K), into soft assignments that use all prototypes alike.
Start from $Q = \exp(\text{logits}/\tau)$. In each iteration divide every *column* by its sum (each
prototype gets the same amount), then every *row* by its sum (each image gives one unit).

The scores may lie around 1,000, where $\exp$ overflows, or around −1,000, where it is 0. A constant
added to *all* of them changes nothing.
""",
    imports="import torch",
    reference=sinkhorn,
    cases=cases,
    edges=edges,
    hints=[
        "Two lines in a loop: q / q.sum(0, keepdim=True), then q / q.sum(1, keepdim=True).",
        "Subtract the largest of all scores before the exponential.",
        "End with the rows: each image must be left with a distribution.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="this is a softmax, row by row: the columns may have any sums. The document's "
            "listing stops here; Sinkhorn–Knopp goes on.",
        ),
        "overflows": Mistake(
            answer=overflows,
            hint="the exponential overflows, and ∞/∞ is not a number. Subtract the largest score "
            "first.",
        ),
        "rows_first": Mistake(
            answer=rows_first,
            hint="rows come first and columns last, so the rows do not sum to 1 at the end.",
        ),
        "once": Mistake(
            answer=once,
            hint="there is one round, whatever `iterations` says.",
        ),
        "no_temperature": Mistake(
            answer=no_temperature,
            hint="the scores are not divided by the temperature.",
        ),
        "sums_to_one_in_all": Mistake(
            answer=sums_to_one_in_all,
            hint="the whole matrix sums to 1. Each row should: it is the target of one image.",
        ),
        "rows_shifted": Mistake(
            answer=rows_shifted,
            hint="a different constant is subtracted from each row. That weights the images "
            "differently in the first sum over a column; subtract one constant from all.",
        ),
    },
)
