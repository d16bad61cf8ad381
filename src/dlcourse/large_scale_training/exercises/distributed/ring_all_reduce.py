"""119.1a: how long a ring all-reduce takes."""

from dlcourse.exercises import Exercise, Mistake


def ring_all_reduce_seconds(size, ranks, bandwidth, latency):
    """Return the seconds that a ring all-reduce of a tensor takes.

    size: bytes. ranks: processes.
    bandwidth: bytes a second of a link. latency: seconds a message.
    """
    messages = 2 * (ranks - 1)  # reduce-scatter, then all-gather
    return messages * (latency + size / ranks / bandwidth)


def cases(rng):
    """From one rank to hundreds, and from kilobytes to gigabytes."""
    return {
        "size": int(10 ** rng.uniform(3, 9)),
        "ranks": int(rng.choice([1, 2, 3, 8, 24, 100])),
        "bandwidth": float(10 ** rng.uniform(9, 11)),
        "latency": float(10 ** rng.uniform(-6, -4)),
    }


def edges():
    """Nothing to send, nobody to send to, no latency."""
    usual = {"size": 8_000_000, "ranks": 4, "bandwidth": 1e10, "latency": 1e-5}
    return {
        "one rank": {**usual, "ranks": 1},
        "two ranks": {**usual, "ranks": 2},
        "a tensor of no bytes": {**usual, "size": 0},
        "no latency": {**usual, "latency": 0.0},
        "pieces that are no whole bytes": {**usual, "size": 10, "ranks": 7},
    }


def listing(size, ranks, bandwidth, latency):
    """The document's world size: 8 nodes of 8, whatever was launched."""
    return ring_all_reduce_seconds(size, 64, bandwidth, latency)


def one_phase(size, ranks, bandwidth, latency):
    return ring_all_reduce_seconds(size, ranks, bandwidth, latency) / 2


def whole_tensor(size, ranks, bandwidth, latency):
    return 2 * (ranks - 1) * (latency + size / bandwidth)


def no_latency(size, ranks, bandwidth, latency):
    return 2 * (ranks - 1) * size / ranks / bandwidth


def one_message_too_many(size, ranks, bandwidth, latency):
    return 2 * ranks * (latency + size / ranks / bandwidth)


EXERCISE = Exercise(
    key="119.1a.ring-all-reduce",
    title="The time of an all-reduce",
    difficulty="implement",
    statement=r"""
In a ring all-reduce each of $N$ ranks cuts its tensor of $S$ bytes into $N$ pieces. In the
reduce-scatter every rank sends one piece to its neighbour $N-1$ times; in the all-gather it does so
$N-1$ times more. A message of $s$ bytes takes $\alpha + s/B$ seconds, with the latency $\alpha$ and
the bandwidth $B$, and all links work at once. How long does it take? (Then let $N$ grow: what
becomes of the two terms?)
""",
    reference=ring_all_reduce_seconds,
    cases=cases,
    edges=edges,
    rtol=1e-9,
    atol=0.0,
    discussion=r"""
$2(N-1)\,(\alpha + S/(NB))$: the bandwidth term tends to $2S/B$ and hardly depends on the number of
ranks, while the latency term grows with it. That is why small tensors are put into buckets.
""",
    hints=[
        "Count the messages that one rank sends, one after another.",
        "Each message carries one piece: a share 1/N of the tensor.",
        "With one rank nothing is sent.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the number of ranks is fixed at 64, the 8 × 8 of the document's constructor. "
            "Use the one that was launched.",
        ),
        "one_phase": Mistake(
            answer=one_phase,
            hint="only one of the two phases is counted: after the reduce-scatter each rank has "
            "one finished piece, which the all-gather must still spread.",
        ),
        "whole_tensor": Mistake(
            answer=whole_tensor,
            hint="every message carries the whole tensor. It carries one of N pieces.",
        ),
        "no_latency": Mistake(
            answer=no_latency,
            hint="the latency is left out: every one of the messages pays it.",
        ),
        "one_message_too_many": Mistake(
            answer=one_message_too_many,
            hint="each phase has one message too many: a rank's own piece is already there.",
        ),
    },
)
