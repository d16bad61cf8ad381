"""119.1c: gradient accumulation over micro-batches of different sizes."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def accumulated_gradient(old, grads, counts):
    """Return the gradient of the mean loss over all tokens of a batch.

    old: array, what .grad holds from the step before.
    grads: list of arrays like it, one a micro-batch: the gradient of its mean loss.
    counts: tokens in each micro-batch.
    """
    total = np.zeros_like(old)  # zero_grad
    for gradient, count in zip(grads, counts):
        total = total + gradient * count / sum(counts)
    return total


def cases(rng):
    """Two to five micro-batches of 1 to 60 tokens, no two sizes alike."""
    k, width = int(rng.integers(2, 6)), int(rng.integers(2, 5))
    counts = [int(n) for n in rng.choice(range(1, 61), size=k, replace=False)]
    grads = [rng.standard_normal(width) for _ in range(k)]
    return {"old": rng.standard_normal(width), "grads": grads, "counts": counts}


def edges():
    """Equal sizes, one micro-batch, sizes far apart, an overflowed old gradient; a matrix."""
    old, g1 = np.array([1.0, -2.0]), np.array([0.5, 3.0])
    g2, g3 = np.array([-1.0, 4.0]), np.array([2.0, 0.0])
    return {
        "equal sizes": {"old": old, "grads": [g1, g2], "counts": [7, 7]},
        "a size that comes twice": {"old": old, "grads": [g1, g2, g3], "counts": [5, 9, 5]},
        "one micro-batch": {"old": old, "grads": [g1], "counts": [12]},
        "sizes far apart": {"old": old, "grads": [g1, g2], "counts": [1, 1000]},
        "an old gradient that overflowed": {
            "old": np.array([np.inf, np.nan]), "grads": [g1, g2], "counts": [3, 4]
        },
        "the gradient of a matrix": {
            "old": np.stack([old, g3, g1]),
            "grads": [np.stack([g1, g2, g3]), np.stack([g3, g1, g2])],
            "counts": [3, 4],
        },
    }  # fmt: skip


def listing(old, grads, counts):
    """The document's step: no zero_grad."""
    return old + accumulated_gradient(old, grads, counts)


def mean_of_means(old, grads, counts):
    return sum(grads) / len(grads)


def sum_of_means(old, grads, counts):
    return sum(grads)


def never_divided(old, grads, counts):
    return sum(g * n for g, n in zip(grads, counts, strict=True))


def last_only(old, grads, counts):
    return grads[-1] * counts[-1] / sum(counts)


def first_size_for_all(old, grads, counts):
    """As if each micro-batch were as large as the first."""
    total = sum(g * n for g, n in zip(grads, counts, strict=True))
    return total / (counts[0] * len(counts))


EXERCISE = Exercise(
    key="119.1c.accumulate",
    title="Micro-batches of different sizes",
    difficulty="extend",
    statement=r"""
A batch of $n = \sum_i n_i$ tokens is too large for the memory, so it is sent through the network in
micro-batches of $n_i$ tokens, and $n_i$ differs, as texts do. For each you are given $g_i$, the
gradient of the *mean* loss over its $n_i$ tokens. Return the gradient of the mean loss over all
$n$ tokens: what one pass with the whole batch would have put into `.grad`.
""",
    imports="import numpy as np",
    reference=accumulated_gradient,
    cases=cases,
    edges=edges,
    rtol=1e-9,
    atol=1e-12,
    discussion=r"""
$\sum_i \frac{n_i}{n}\, g_i$. In a training loop it is simplest to take the *sum* of the losses of
each micro-batch and to divide by the $n$ of the whole step, which must be known before the first
backward pass. On many ranks $n$ is the count over all of them.
""",
    hints=[
        "The mean over everything is a weighted mean of the means. What are the weights?",
        "A micro-batch with twice as many tokens counts twice.",
        "What must happen to `old` before the first backward pass of a step?",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the gradient of the step before is still in it: the document's loop never calls "
            "`zero_grad`.",
        ),
        "mean_of_means": Mistake(
            answer=mean_of_means,
            hint="each micro-batch counts the same, so a token in a short one counts more than a "
            "token in a long one.",
        ),
        "sum_of_means": Mistake(
            answer=sum_of_means,
            hint="the means are summed: the gradient grows with the number of micro-batches.",
        ),
        "never_divided": Mistake(
            answer=never_divided,
            hint="this is the gradient of the summed loss. Divide by the number of all tokens.",
        ),
        "last_only": Mistake(
            answer=last_only,
            hint="only the last micro-batch is left: `zero_grad` belongs before the first one, "
            "not before each.",
        ),
        "first_size_for_all": Mistake(
            answer=first_size_for_all,
            hint="the number of tokens is taken for the size of the first micro-batch times their "
            "number. Add up the sizes.",
        ),
    },
)
