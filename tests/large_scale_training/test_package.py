"""What the chapter's package offers: the public names, wherever their modules lie."""

import importlib
import inspect

import pytest

import dlcourse.large_scale_training as package

NAMES = [
    "AdamWScheduleFree",
    "CheckpointError",
    "LaunchError",
    "Lion",
    "Memory",
    "MixedPrecision",
    "MultiplierLR",
    "PendingCheckpoint",
    "Plan",
    "ScheduleFreeReference",
    "WarmupCosineLR",
    "World",
    "activation_bytes",
    "batch_part",
    "best_interval",
    "cosine_multiplier",
    "cosine_with_restarts",
    "cosine_with_warmup",
    "distributed",
    "find_blocks",
    "fit_alpha_beta",
    "global_mean",
    "launch",
    "lion_step_reference",
    "load_checkpoint",
    "local_memory",
    "lost_time",
    "one_cycle",
    "one_cycle_momentum",
    "one_cycle_multiplier",
    "optimizer_state_bytes",
    "plan",
    "reduces_gradients",
    "replicate",
    "restarts_multiplier",
    "ring_all_reduce_time",
    "rng_state",
    "save_checkpoint",
    "save_checkpoint_async",
    "set_rng_state",
    "shard",
    "time_all_reduce",
    "underflow_fraction",
    "warmup_stable_decay",
    "wsd_multiplier",
    "zero_memory",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_importable_from_the_package(name):
    value = getattr(importlib.import_module(package.__name__), name)
    assert callable(value) and value.__name__ == name


def test_these_are_all_public_names():
    assert sorted(package.__all__) == sorted(NAMES) == sorted(dir(package))


def test_every_public_name_says_what_it_is():
    undocumented = [name for name in NAMES if not inspect.getdoc(getattr(package, name))]
    assert not undocumented


def test_the_folder_distributed_does_not_hide_the_function_of_its_name():
    from dlcourse.large_scale_training.distributed import world
    from dlcourse.large_scale_training.distributed.launch import launch

    assert package.distributed is world.distributed
    assert package.launch is launch
