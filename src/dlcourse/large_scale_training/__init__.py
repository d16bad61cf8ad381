"""Chapter 119: training at scale."""

CHAPTER = 119

from dlcourse.large_scale_training.mixed_precision import MixedPrecision, underflow_fraction
from dlcourse.large_scale_training.optimizers import (
    AdamWScheduleFree,
    Lion,
    ScheduleFreeReference,
    lion_step_reference,
    optimizer_state_bytes,
)
from dlcourse.large_scale_training.schedules import (
    MultiplierLR,
    WarmupCosineLR,
    cosine_multiplier,
    cosine_with_restarts,
    cosine_with_warmup,
    one_cycle,
    one_cycle_momentum,
    one_cycle_multiplier,
    restarts_multiplier,
    warmup_stable_decay,
    wsd_multiplier,
)

# Loaded on first use: torch.distributed takes as long to import as torch itself.
_INFRASTRUCTURE = (
    "CheckpointError",
    "LaunchError",
    "Memory",
    "PendingCheckpoint",
    "Plan",
    "World",
    "activation_bytes",
    "distributed",
    "find_blocks",
    "fit_alpha_beta",
    "launch",
    "load_checkpoint",
    "local_memory",
    "plan",
    "replicate",
    "ring_all_reduce_time",
    "rng_state",
    "save_checkpoint",
    "save_checkpoint_async",
    "set_rng_state",
    "shard",
    "time_all_reduce",
    "zero_memory",
)

__all__ = [
    *_INFRASTRUCTURE,
    "AdamWScheduleFree",
    "Lion",
    "MixedPrecision",
    "MultiplierLR",
    "ScheduleFreeReference",
    "WarmupCosineLR",
    "cosine_multiplier",
    "cosine_with_restarts",
    "cosine_with_warmup",
    "lion_step_reference",
    "one_cycle",
    "one_cycle_momentum",
    "one_cycle_multiplier",
    "optimizer_state_bytes",
    "restarts_multiplier",
    "underflow_fraction",
    "warmup_stable_decay",
    "wsd_multiplier",
]


def __getattr__(name: str) -> object:
    if name in _INFRASTRUCTURE:
        from dlcourse.large_scale_training import infrastructure

        return getattr(infrastructure, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
