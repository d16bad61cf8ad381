"""The optimizer's state by the names of the parameters.

torch's ``get_state_dict`` would do this too, but it first makes a *step* on a fresh optimizer, at
rate zero: Adam counts it, so that a run saved before its first step continues differently, and
Schedule-Free refuses it in eval mode. ``Optimizer.state_dict`` and ``load_state_dict`` need no
step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer


def named_groups(model: nn.Module, optimizer: Optimizer) -> list[dict[str, Any]]:
    """The optimizer's groups, their parameters by name."""
    names = _ordered_names(model, optimizer)
    groups = optimizer.state_dict()["param_groups"]
    return [{**group, "params": [names[i] for i in group["params"]]} for group in groups]


def named_state(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's state, each entry under ``optimizer/<name of the parameter>/<entry>``."""
    names = _ordered_names(model, optimizer)
    return {
        f"optimizer/{names[i]}/{key}": value
        for i, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
    }


def empty_state(model: nn.Module, optimizer: Optimizer, metadata: Metadata) -> dict[str, Any]:
    """Room for what the checkpoint holds of the optimizer, sharded like the parameters."""
    parameters = {name: p for p, name in _parameter_names(model).items()}
    state: dict[str, Any] = {}
    for key, stored in metadata.state_dict_metadata.items():
        kind, _, rest = key.partition("/")
        if kind != "optimizer":
            continue
        parameter = parameters[rest.rpartition("/")[0]]
        if not isinstance(stored, TensorStorageMetadata):
            state[key] = None  # a plain Python value
        elif stored.size == parameter.shape:
            state[key] = torch.empty_like(parameter, dtype=stored.properties.dtype)
        else:  # such as Adam's count of steps
            state[key] = torch.empty(stored.size, dtype=stored.properties.dtype)
    return state


def load_named(
    model: nn.Module, optimizer: Optimizer, loaded: dict[str, Any], groups: list[dict[str, Any]]
) -> None:
    """Put what was loaded into ``empty_state``, and the saved ``groups``, into the optimizer."""
    position = {name: i for i, name in enumerate(_ordered_names(model, optimizer))}
    state: dict[int, dict[str, Any]] = {}
    for key, value in loaded.items():
        kind, _, rest = key.partition("/")
        if kind == "optimizer":
            name, _, entry = rest.rpartition("/")
            state.setdefault(position[name], {})[entry] = value
    # A setting that the checkpoint lacks, because its torch was older, stays as it is.
    numbered = [
        {**ours, **saved, "params": [position[name] for name in saved["params"]]}
        for ours, saved in zip(named_groups(model, optimizer), groups, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": numbered})


def _ordered_names(model: nn.Module, optimizer: Optimizer) -> list[str]:
    names = _parameter_names(model)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if any(p not in names for p in parameters):
        raise ValueError(
            "the optimizer holds parameters that are not the model's: make it after shard(), "
            "from model.parameters()"
        )
    return [names[p] for p in parameters]


def _parameter_names(model: nn.Module) -> dict[nn.Parameter, str]:
    if isinstance(model, DistributedDataParallel):
        model = model.module
    return {p: _clean(name) for name, p in model.named_parameters()}


def _clean(name: str) -> str:
    """The name without what torch.compile and activation checkpointing put into it."""
    return name.replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", "")
