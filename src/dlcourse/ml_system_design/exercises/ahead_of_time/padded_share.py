"""123.2b: what padding to captured sizes costs."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def padded_share(batches, sizes):
    """Return the share of computed rows that are padding, 0.0 where nothing is computed.

    batches: list of numbers of rows, each ≥ 0. sizes: ascending list of sizes that can be run. A
    batch above the largest runs in pieces of the largest, and then the rest.
    """
    computed = 0
    for n in batches:
        whole, rest = divmod(n, sizes[-1])
        computed += whole * sizes[-1]
        if rest:
            computed += min(size for size in sizes if size >= rest)
    return float((computed - sum(batches)) / computed) if computed else 0.0


def cases(rng):
    """Some batches, and three to five sizes."""
    sizes = sorted({int(s) for s in rng.integers(1, 33, 5)})
    return {"batches": [int(n) for n in rng.integers(0, 70, rng.integers(1, 8))], "sizes": sizes}


def edges():
    """Nothing; exact; the least size; more than the largest; a multiple of it."""
    return {
        "no batch": {"batches": [], "sizes": [1, 4]},
        "no rows": {"batches": [0, 0], "sizes": [4]},
        "exact": {"batches": [1, 4, 8], "sizes": [1, 4, 8]},
        "one above": {"batches": [5], "sizes": [1, 4, 8]},
        "below the least": {"batches": [1], "sizes": [4, 8]},
        "above the largest": {"batches": [11], "sizes": [2, 8]},
        "twice the largest": {"batches": [16], "sizes": [1, 8]},
        "no powers of two": {"batches": [3, 5, 6], "sizes": [3, 6]},
        "unlike batches": {"batches": [1, 31], "sizes": [16, 32]},
    }


def listing_any_size(batches, sizes):
    """The document compiles for one example, and runs each batch as it comes."""
    return 0.0


def always_largest(batches, sizes):
    return padded_share(batches, sizes[-1:])


def strictly_larger(batches, sizes):
    computed = 0
    for n in batches:
        whole, rest = divmod(n, sizes[-1])
        larger = [size for size in sizes if size > rest]
        computed += whole * sizes[-1] + ((larger or sizes[-1:])[0] if rest else 0)
    return float((computed - sum(batches)) / computed) if computed else 0.0


def over_real_rows(batches, sizes):
    share = padded_share(batches, sizes)
    return share / (1 - share)


def mean_of_shares(batches, sizes):
    shares = [padded_share([n], sizes) for n in batches if n]
    return float(np.mean(shares)) if shares else 0.0


def no_pieces(batches, sizes):
    return padded_share([n for n in batches if n <= sizes[-1]], sizes)


EXERCISE = Exercise(
    key="123.2b.padded-share",
    title="How much is padding?",
    difficulty="extend",
    statement=r"""
A graph was captured for a few batch sizes. A batch runs at the least size that it fits, and its
missing rows are padding. One above the largest size runs in pieces of the largest first; the rest
runs as a batch of its own (if there is one).

Return the share of all computed rows that are padding: a float, 0.0 where nothing is computed.
""",
    imports="import numpy as np",
    reference=padded_share,
    cases=cases,
    edges=edges,
    hints=[
        "Count the computed rows over all batches; padding is that minus the real rows.",
        "`divmod(n, sizes[-1])` gives the whole pieces and the rest.",
        "The least size that fits: `min(s for s in sizes if s >= rest)`; no rest, no piece.",
    ],
    mistakes={
        "listing_any_size": Mistake(
            answer=listing_any_size,
            hint="you count no padding: the document runs what comes in a graph of one example.",
        ),
        "always_largest": Mistake(
            answer=always_largest, hint="each batch is padded to the largest size."
        ),
        "strictly_larger": Mistake(
            answer=strictly_larger, hint="a batch that fits a size exactly needs no larger one."
        ),
        "over_real_rows": Mistake(
            answer=over_real_rows, hint="you divide by the real rows, not by the computed ones."
        ),
        "mean_of_shares": Mistake(
            answer=mean_of_shares,
            hint="you average over batches. Large batches compute more: count rows.",
        ),
        "no_pieces": Mistake(
            answer=no_pieces, hint="batches above the largest are left out; they run in pieces."
        ),
    },
)
