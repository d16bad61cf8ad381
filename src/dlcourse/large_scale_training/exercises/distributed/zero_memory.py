"""119.1a: bytes of model state on a rank, at each stage of ZeRO."""

from dlcourse.exercises import Exercise, Mistake


def zero_bytes(parameters, ranks, stage):
    """Return the bytes of the weights, of the gradients and of Adam's state on one rank.

    parameters: their number. ranks: processes that share.
    stage: 0 (nothing is sharded) to 3.
    """
    weights = 2 * parameters  # 16 bits
    gradients = 2 * parameters
    optimizer = 12 * parameters  # 32-bit copy of the weights, two moments
    if stage >= 1:
        optimizer /= ranks
    if stage >= 2:
        gradients /= ranks
    if stage >= 3:
        weights /= ranks
    return weights, gradients, optimizer


def cases(rng):
    """Models of a million to ten billion parameters, on up to 64 ranks, at every stage."""
    return {
        "parameters": int(10 ** rng.uniform(6, 10)),
        "ranks": int(rng.choice([2, 4, 8, 64])),
        "stage": int(rng.integers(0, 4)),
    }


def edges():
    """Each stage, with numbers that do not divide; and a rank that shares with nobody."""
    stages = {
        f"stage {stage}, nothing divides": {"parameters": 7_000_003, "ranks": 6, "stage": stage}
        for stage in range(4)
    }
    return {**stages, "one rank": {"parameters": 1_000_000, "ranks": 1, "stage": 3}}


def _held(parameters, ranks, bytes_each, sharded):
    held = zip(bytes_each, sharded, strict=True)
    return tuple(n * parameters / (ranks if s else 1) for n, s in held)


def listing(parameters, ranks, stage):
    """The document's FSDP at its peak: one unit, so that all weights are gathered at once."""
    return zero_bytes(parameters, ranks, min(stage, 2))


def stages_off_by_one(parameters, ranks, stage):
    return zero_bytes(parameters, ranks, stage - 1)


def two_and_three_swapped(parameters, ranks, stage):
    return _held(parameters, ranks, (2, 2, 12), (stage >= 2, stage >= 3, stage >= 1))


def no_master_weights(parameters, ranks, stage):
    return _held(parameters, ranks, (2, 2, 8), (stage >= 3, stage >= 2, stage >= 1))


def all_sharded(parameters, ranks, stage):
    return _held(parameters, ranks, (2, 2, 12), (stage >= 1,) * 3)


def one_part_alone(parameters, ranks, stage):
    return _held(parameters, ranks, (2, 2, 12), (stage == 3, stage == 2, stage == 1))


def full_precision(parameters, ranks, stage):
    return _held(parameters, ranks, (4, 4, 8), (stage >= 3, stage >= 2, stage >= 1))


def sum_alone(parameters, ranks, stage):
    return sum(zero_bytes(parameters, ranks, stage))


EXERCISE = Exercise(
    key="119.1a.zero-memory",
    title="What each stage of ZeRO saves",
    difficulty="extend",
    statement=r"""
Training with Adam in mixed precision keeps, for each of $\Psi$ parameters, 2 bytes of weight and 2
of gradient (16 bits), and 12 of optimizer state: a 32-bit copy of the weight and two 32-bit
moments. ZeRO (Rajbhandari et al., 2020) shards over $N$ ranks the optimizer state (stage 1), the
gradients too (stage 2), the weights too (stage 3). How many bytes of each does one rank hold?
(Activations do not count here. Each rank has $1/N$ also where that is no whole number of
parameters; a part of a byte may stand, or be rounded.)
""",
    reference=zero_bytes,
    cases=cases,
    edges=edges,
    returns=("weights", "gradients", "optimizer"),
    rtol=1e-9,
    atol=1.0,  # whole bytes are as good
    hints=[
        "Write down the three parts, then decide for each from which stage on it is divided by N.",
        "Stage 0 is 16 bytes a parameter in all, stage 3 is 16/N.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the weights are whole at stage 3 too. That is the peak of the document's FSDP, "
            "which wraps the model as one unit and gathers all of it at once.",
        ),
        "stages_off_by_one": Mistake(
            answer=stages_off_by_one,
            hint="the stages are shifted by one: stage 1 already shards the optimizer state.",
        ),
        "two_and_three_swapped": Mistake(
            answer=two_and_three_swapped,
            hint="stages 2 and 3 are swapped. Their sum is the same at stages 0, 1 and 3, but "
            "stage 2 shards the gradients, and only stage 3 the weights.",
        ),
        "one_part_alone": Mistake(
            answer=one_part_alone,
            hint="each stage shards one part alone. Stage 2 shards what stage 1 does, and more.",
        ),
        "sum_alone": Mistake(
            answer=sum_alone,
            hint="the three parts are summed. Return them one by one: errors can cancel in a sum.",
        ),
        "no_master_weights": Mistake(
            answer=no_master_weights,
            hint="the 32-bit copy of the weights is missing: 12 bytes of state, not 8.",
        ),
        "all_sharded": Mistake(
            answer=all_sharded,
            hint="everything is sharded from stage 1 on. The stages add one part at a time.",
        ),
        "full_precision": Mistake(
            answer=full_precision,
            hint="you count 32-bit weights and gradients and no copy. The total is the same 16 "
            "bytes, but what a stage shards is not.",
        ),
    },
)
