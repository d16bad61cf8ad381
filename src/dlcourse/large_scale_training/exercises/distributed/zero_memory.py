"""119.1a: bytes of model state on a rank, at each stage of ZeRO."""

from dlcourse.exercises import Exercise, Mistake


def zero_bytes(parameters, ranks, stage):
    """Return the bytes of weights, gradients and Adam's state on one rank.

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
    return weights + gradients + optimizer


def cases(rng):
    """Models of a million to ten billion parameters, on up to 64 ranks, at every stage."""
    return {
        "parameters": int(10 ** rng.uniform(6, 10)),
        "ranks": int(rng.choice([2, 4, 8, 64])),
        "stage": int(rng.integers(0, 4)),
    }


def listing(parameters, ranks, stage):
    """The document's FSDP at its peak: one unit, so that all weights are gathered at once."""
    return zero_bytes(parameters, ranks, min(stage, 2))


def stages_off_by_one(parameters, ranks, stage):
    return zero_bytes(parameters, ranks, stage - 1)


def no_master_weights(parameters, ranks, stage):
    return zero_bytes(parameters, ranks, stage) - 4 * parameters / (ranks if stage >= 1 else 1)


def all_sharded(parameters, ranks, stage):
    return 16 * parameters / (ranks if stage else 1)


def full_precision(parameters, ranks, stage):
    shared = [stage < 3, stage < 2, stage < 1]
    sizes = [4, 4, 8]
    return sum(n * parameters / (1 if s else ranks) for n, s in zip(sizes, shared, strict=True))


EXERCISE = Exercise(
    key="119.1a.zero-memory",
    title="What each stage of ZeRO saves",
    difficulty="extend",
    statement=r"""
Training with Adam in mixed precision keeps, for each of $\Psi$ parameters, 2 bytes of weight and 2
of gradient (16 bits), and 12 of optimizer state: a 32-bit copy of the weight and two 32-bit
moments. ZeRO (Rajbhandari et al., 2020) shards over $N$ ranks the optimizer state (stage 1), the
gradients too (stage 2), the weights too (stage 3). How many bytes does one rank hold? (Activations
do not count here.)
""",
    reference=zero_bytes,
    cases=cases,
    rtol=1e-9,
    atol=0.0,
    hints=[
        "Write down the three parts, then decide for each from which stage on it is divided by N.",
        "Stage 0 is 16 bytes a parameter, stage 3 is 16/N.",
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
