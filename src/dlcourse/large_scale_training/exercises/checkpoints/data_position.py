"""119.1b: which rank reads which examples, at any step and for any number of ranks."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def rows_of_rank(rank, ranks, step, batch, examples, seed):
    """Return the indices of the examples that a rank reads at a step, an array.

    step: of the whole run, from 0. examples: how many there are.
    batch: examples a step over all ranks, a multiple of ranks.
    seed: of the shuffling.
    """
    steps_per_epoch = examples // batch  # what is left over is not read
    epoch, position = divmod(step, steps_per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    rows = order[position * batch : (position + 1) * batch]
    return np.array_split(rows, ranks)[rank]


def cases(rng):
    """A few ranks, a batch for them, and a step of the first epochs."""
    ranks = int(rng.choice([2, 3, 4]))
    batch = ranks * int(rng.integers(2, 5))
    steps_per_epoch = int(rng.integers(3, 6))
    return {
        "rank": int(rng.integers(1, ranks)),
        "ranks": ranks,
        "step": int(rng.integers(1, 4 * steps_per_epoch)),
        "batch": batch,
        "examples": batch * steps_per_epoch + int(rng.integers(1, batch)),
        "seed": int(rng.integers(1000)),
    }


def edges():
    """The first step and the ends of an epoch; one rank; batches that read all, or one each."""
    usual = {"rank": 1, "ranks": 2, "step": 3, "batch": 6, "examples": 27, "seed": 5}
    return {
        "the first step": {**usual, "step": 0},
        "rank 0": {**usual, "rank": 0},
        "the first step of an epoch": {**usual, "step": 8},
        "the last step of an epoch": {**usual, "step": 7},
        "one rank": {**usual, "rank": 0, "ranks": 1},
        "an epoch of one step": {**usual, "batch": 20},
        "nothing is left over": {**usual, "examples": 24, "step": 9},
        "one example a rank": {**usual, "batch": 2},
        "seed 0": {**usual, "seed": 0},
    }


def listing(rank, ranks, step, batch, examples, seed):
    """The document's resumed run: the position is neither saved nor asked for."""
    return rows_of_rank(rank, ranks, 0, batch, examples, seed)


def one_order_for_all_epochs(rank, ranks, step, batch, examples, seed):
    return rows_of_rank(rank, ranks, step % (examples // batch), batch, examples, seed)


def own_part_of_the_data(rank, ranks, step, batch, examples, seed):
    epoch, position = divmod(step, examples // batch)
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    own, share = np.array_split(order, ranks)[rank], batch // ranks
    return own[position * share : (position + 1) * share]


def own_shuffling(rank, ranks, step, batch, examples, seed):
    return rows_of_rank(rank, ranks, step, batch, examples, seed + rank)


def whole_batch(rank, ranks, step, batch, examples, seed):
    return rows_of_rank(0, 1, step, batch, examples, seed)


def every_nth(rank, ranks, step, batch, examples, seed):
    return rows_of_rank(0, 1, step, batch, examples, seed)[rank::ranks]


EXERCISE = Exercise(
    key="119.1b.data-position",
    title="Which rank reads which examples?",
    difficulty="implement",
    statement=r"""
A run that resumes on another number of ranks should read the same batches as before. So the batch
of a step may depend on the seed and the step alone, and the ranks only divide it. Write it: in
epoch $e$ the order is `np.random.default_rng([seed, e]).permutation(examples)`; the steps of an
epoch read whole batches from it, one after the other, and what is left over is not read; rank $r$
reads the $r$-th of equal contiguous parts of the batch.
""",
    imports="import numpy as np",
    reference=rows_of_rank,
    cases=cases,
    edges=edges,
    discussion=r"""
This is a data position that needs no state: the step is enough, and `load_checkpoint` returns it.
Concatenate the ranks' rows for `ranks` = 2 and 4: they are the same batch. A sampler that cuts the
*data* between the ranks first has other batches for each number of ranks.
""",
    hints=[
        "How many whole batches has an epoch? Then `divmod(step, ...)` gives epoch and position.",
        "Find the batch first, without looking at rank and ranks; divide it at the end.",
        "`np.array_split(rows, ranks)[rank]`.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the step is not used, so that a resumed run begins with the first batch again, "
            "as it does in the document, which never asks for the position.",
        ),
        "one_order_for_all_epochs": Mistake(
            answer=one_order_for_all_epochs,
            hint="every epoch has the same order. The epoch belongs into the seed.",
        ),
        "own_part_of_the_data": Mistake(
            answer=own_part_of_the_data,
            hint="the data are cut between the ranks before the batches are made: another number "
            "of ranks then trains on other batches. Cut the batch.",
        ),
        "own_shuffling": Mistake(
            answer=own_shuffling,
            hint="each rank shuffles with a seed of its own: some examples are read twice in an "
            "epoch and others never. All ranks must agree on the order.",
        ),
        "whole_batch": Mistake(
            answer=whole_batch,
            hint="every rank reads the whole batch, and the ranks do the same work.",
        ),
        "every_nth": Mistake(
            answer=every_nth,
            hint="the rank takes every n-th row. That is fair too, but here the parts are "
            "contiguous.",
        ),
    },
)
