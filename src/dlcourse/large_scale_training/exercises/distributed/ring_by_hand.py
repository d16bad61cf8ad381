"""119.1a: the first half of a ring all-reduce, message by message."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def ring_reduce_scatter(pieces):
    """Return what each rank's buffer holds after a reduce-scatter in a ring, a new array.

    pieces: (ranks, ranks, n); pieces[r, c] is piece c of rank r's tensor.
    Leave it as it is.
    """
    buffers = pieces.copy()
    ranks = len(buffers)
    for k in range(ranks - 1):
        # all at the same time: rank r sends piece r − k to rank r + 1
        sent = [buffers[r, (r - k) % ranks].copy() for r in range(ranks)]
        for r, message in enumerate(sent):
            buffers[(r + 1) % ranks, (r - k) % ranks] += message
    return buffers


def cases(rng):
    """Three to six ranks with pieces of one to four numbers."""
    ranks = int(rng.integers(3, 7))
    return {"pieces": rng.standard_normal((ranks, ranks, int(rng.integers(1, 5))))}


def edges():
    """One rank, which is done at once; two; and pieces of one number."""
    numbers = np.random.default_rng(0)
    return {
        "one rank": {"pieces": numbers.standard_normal((1, 1, 3))},
        "two ranks": {"pieces": numbers.standard_normal((2, 2, 3))},
        "pieces of one number": {"pieces": numbers.standard_normal((5, 5, 1))},
    }


def _ring(pieces, steps, piece, target, add=True):
    buffers = pieces.copy()
    ranks = len(buffers)
    for k in range(steps):
        sent = [buffers[r, piece(r, k) % ranks].copy() for r in range(ranks)]
        for r, message in enumerate(sent):
            place = (r + target) % ranks, piece(r, k) % ranks
            buffers[place] = buffers[place] + message if add else message
    return buffers


def listing(pieces):
    """Everything is everywhere, as in the document's FSDP, which gathers the model as one unit."""
    return np.broadcast_to(pieces.sum(axis=0), pieces.shape).copy()


def one_message_too_many(pieces):
    return _ring(pieces, len(pieces), lambda r, k: r - k, 1)


def one_message_too_few(pieces):
    return _ring(pieces, max(0, len(pieces) - 2), lambda r, k: r - k, 1)


def always_the_same_piece(pieces):
    return _ring(pieces, len(pieces) - 1, lambda r, k: r, 1)


def not_added(pieces):
    return _ring(pieces, len(pieces) - 1, lambda r, k: r - k, 1, add=False)


def piece_turned(pieces):
    return _ring(pieces, len(pieces) - 1, lambda r, k: r + k, 1)


def ring_turned(pieces):
    return _ring(pieces, len(pieces) - 1, lambda r, k: r - k, -1)


EXERCISE = Exercise(
    key="119.1a.ring-by-hand",
    title="A reduce-scatter from messages",
    difficulty="extend",
    statement=r"""
Build the first half of an all-reduce from nothing but messages to the next rank. Each of $N$ ranks
has its tensor in $N$ pieces. In round $k = 0, \dots, N-2$ every rank $r$ sends piece $r - k$ to
rank $r + 1$ (both modulo $N$), which adds it to its own; all send at the same time. Return all
buffers as they are at the end, partial sums included, in a new array. Which piece of rank $r$ is
finished?
""",
    imports="import numpy as np",
    reference=ring_reduce_scatter,
    cases=cases,
    edges=edges,
    returns_new=True,
    discussion=r"""
Rank $r$ ends with the finished sum of piece $r + 1$: it is what FSDP keeps of the gradients. An
all-gather, the same rounds with copying in place of adding, completes the all-reduce. No rank has
sent more than $2(N-1)/N$ of the tensor, however many ranks there are.
""",
    hints=[
        "What a rank sends in round k + 1 is what it has just received and added to.",
        "Collect all messages of a round (copies!) before you add any.",
        "Python's `%` is never negative for a positive divisor: `(r - k) % ranks`.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="every rank holds every sum: that is a whole all-reduce, with the memory of the "
            "document's FSDP, one unit gathered at once. Here a rank finishes one piece.",
        ),
        "one_message_too_many": Mistake(
            answer=one_message_too_many,
            hint="there is one round too many: a finished sum is sent on and added once more.",
        ),
        "one_message_too_few": Mistake(
            answer=one_message_too_few,
            hint="a round is missing: no piece has been to all ranks yet.",
        ),
        "always_the_same_piece": Mistake(
            answer=always_the_same_piece,
            hint="each rank sends the same piece in every round. It must pass on the piece that "
            "it has just added to.",
        ),
        "not_added": Mistake(
            answer=not_added,
            hint="what arrives replaces what was there. That is the all-gather; first comes the "
            "sum.",
        ),
        "piece_turned": Mistake(
            answer=piece_turned,
            hint="the pieces are counted upwards: rank r sends r - k, which has just arrived.",
        ),
        "ring_turned": Mistake(
            answer=ring_turned,
            hint="the messages go to rank r - 1. Pieces and messages must go round together.",
        ),
    },
)
