"""The optimizer's state by the names of the parameters.

torch's ``get_state_dict`` would do this too, but it first makes a *step* on a fresh optimizer, at
rate zero: Adam counts it, so that a run saved before its first step continues differently, and
Schedule-Free refuses it in eval mode. ``Optimizer.state_dict`` and ``load_state_dict`` need no
step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from dlcourse.large_scale_training.checkpoints._model_state import (
    check_saveable,
    parameter_names,
)
from dlcourse.large_scale_training.checkpoints._shared import CheckpointError

# How a step is computed is the machine's affair: a checkpoint does not change it.
_OF_THE_MACHINE = {"foreach", "fused", "capturable", "differentiable"}


def described(optimizer: Optimizer) -> dict[str, str]:
    """Which optimizer it is."""
    return {"name": type(optimizer).__qualname__, "module": type(optimizer).__module__}


def named_groups(model: nn.Module, optimizer: Optimizer) -> list[dict[str, Any]]:
    """The optimizer's groups, their parameters by name."""
    names = _ordered_names(model, optimizer)
    groups = optimizer.state_dict()["param_groups"]
    return [{**group, "params": [names[i] for i in group["params"]]} for group in groups]


def named_state(
    model: nn.Module, optimizer: Optimizer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state in two parts: its tensors, each under a key of its own, and the rest.

    The rest holds ``tensors``, a list of (parameter, entry, key); ``plain``, the entries by
    parameter that are no tensors, such as the lists of LBFGS; and what belongs to no parameter.
    Raises TypeError for what could not come back equal.
    """
    names = _ordered_names(model, optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    saved = dict(optimizer.state_dict())
    del saved["param_groups"]
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {"tensors": [], "plain": {}, "shared": {}}
    for i, entries in saved.pop("state").items():
        if not isinstance(i, int) or i >= len(names):  # of no parameter
            rest["shared"][i] = entries
            continue
        for entry, value in entries.items():
            if not isinstance(value, Tensor):
                _refuse_shards(value, f"{entry} of {names[i]}")
                rest["plain"].setdefault(names[i], {})[entry] = value
                continue
            _check_tensor(f"the optimizer's {entry} of {names[i]}", value, parameters[i])
            key = f"optimizer/{names[i]}/{entry}"
            while key in tensors:
                key += "'"
            tensors[key] = value
            rest["tensors"].append((names[i], entry, key))
    rest["more"] = saved  # what a hook of the optimizer has added
    _refuse_shards(rest, "what belongs to no parameter")
    return tensors, rest


def _check_tensor(name: str, value: Tensor, parameter: nn.Parameter) -> None:
    check_saveable(name, value)
    if not isinstance(parameter, DTensor):
        return
    if isinstance(value, DTensor) and (
        value.shape != parameter.shape or value.placements != parameter.placements
    ):
        raise TypeError(f"{name} cannot be saved: it is sharded otherwise than the parameter")
    if not isinstance(value, DTensor) and value.numel() > 1:
        raise TypeError(
            f"{name} cannot be saved: the parameter is sharded and this is a plain tensor, of "
            "which each rank has another; make it with zeros_like(parameter)"
        )


def _refuse_shards(value: Any, name: str) -> None:
    if isinstance(value, DTensor):
        raise TypeError(f"{name} cannot be saved: it holds a sharded tensor within a container")
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for part in value:
        _refuse_shards(part, name)


def empty_state(
    model: nn.Module, optimizer: Optimizer, rest: dict[str, Any], metadata: Metadata
) -> dict[str, Tensor]:
    """Room for the state's tensors, sharded like the parameters."""
    parameters = {name: p for p, name in parameter_names(model).items()}
    state = {}
    for name, _, key in rest["tensors"]:
        parameter, stored = parameters[name], metadata.state_dict_metadata[key]
        dtype = stored.properties.dtype
        if stored.size == parameter.shape and parameter.dim():
            state[key] = torch.empty_like(parameter, dtype=dtype, requires_grad=False)
        else:  # such as Adam's count of steps
            state[key] = torch.empty(stored.size, dtype=dtype)
    return state


def load_named(
    model: nn.Module,
    optimizer: Optimizer,
    loaded: dict[str, Any],
    rest: dict[str, Any],
    groups: list[dict[str, Any]],
) -> None:
    """Put what was loaded into ``empty_state``, the ``rest`` and the saved ``groups`` into the
    optimizer: by name, in whatever order the parameters were and are."""
    names = _ordered_names(model, optimizer)
    position = {name: i for i, name in enumerate(names)}
    state: dict[Any, dict[Any, Any]] = {}
    for name, entries in rest["plain"].items():
        state.setdefault(position[name], {}).update(entries)
    for name, entry, key in rest["tensors"]:
        state.setdefault(position[name], {})[entry] = loaded[key]
    ours = named_groups(model, optimizer)
    numbered = [
        # In our order, and not that of the save: load_state_dict goes by position in a group.
        {**_merged(a, b), "params": [position[name] for name in a["params"]]}
        for a, b in zip(ours, matched(ours, groups), strict=True)
    ]
    everything = {"state": state | rest["shared"], "param_groups": numbered}
    optimizer.load_state_dict({**rest["more"], **everything})
    _undo_casts(optimizer, state)


def matched(
    ours: list[dict[str, Any]], saved: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The saved groups in our order, found by their parameters.

    Raises CheckpointError where there is no such group.
    """
    if len(ours) != len(saved):
        raise CheckpointError(
            f"the checkpoint is of another optimizer: it has {len(saved)} parameter groups, "
            f"not {len(ours)}"
        )
    left, found = list(saved), []
    for i, group in enumerate(ours):
        same = [g for g in left if set(g["params"]) == set(group["params"])]
        if not same:
            raise CheckpointError(
                f"the checkpoint is of another optimizer: group {i} has other parameters"
            )
        left.remove(same[0])
        found.append(same[0])
    return found


def _merged(ours: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """The saved settings, in the form in which ours are: tensors, NumPy's or Python's numbers.

    A setting that the checkpoint lacks, because its torch was older, stays as it is.
    """
    settings = dict(ours)
    for key, value in saved.items():
        if key == "param_names" or key in _OF_THE_MACHINE & ours.keys():
            continue
        settings[key] = _in_the_form_of(ours[key], value) if key in ours else value
    return settings


def _in_the_form_of(ours: Any, saved: Any) -> Any:
    if type(ours) is type(saved) and type(ours) in (tuple, list) and len(ours) == len(saved):
        return type(ours)(_in_the_form_of(a, b) for a, b in zip(ours, saved, strict=True))
    if isinstance(saved, Tensor) and isinstance(ours, Tensor) and saved.shape == ours.shape:
        return saved.to(ours.device)
    number = saved.item() if isinstance(saved, Tensor) and saved.dim() == 0 else saved
    if isinstance(number, bool) or not isinstance(number, int | float):
        return saved
    if isinstance(ours, Tensor) and ours.dim() == 0:
        return torch.tensor(number, dtype=ours.dtype, device=ours.device)
    if isinstance(ours, np.floating):
        return type(ours)(number)
    if isinstance(ours, int | float | np.integer):
        return number
    return saved


def _undo_casts(optimizer: Optimizer, state: dict[Any, dict[Any, Any]]) -> None:
    """torch casts state to the parameter's dtype, which would round the float32 state of a
    bfloat16 parameter, and takes the text in a list for a sequence: give both back as saved."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, entries in state.items():
        now = optimizer.state[parameters[i]]
        for entry, value in entries.items():
            if entry not in now:  # renamed by a hook
                continue
            if isinstance(value, dict | list | tuple):
                now[entry] = _moved(value, parameters[i].device)
            elif isinstance(value, Tensor) and isinstance(now[entry], Tensor):
                if now[entry].dtype != value.dtype:
                    now[entry] = value.to(now[entry].device)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return type(value)((k, _moved(v, device)) for k, v in value.items())
    if type(value) in (list, tuple):
        return type(value)(_moved(v, device) for v in value)
    return value


def _ordered_names(model: nn.Module, optimizer: Optimizer) -> list[str]:
    names = parameter_names(model)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if any(p not in names for p in parameters):
        raise ValueError(
            "the optimizer holds parameters that are not the model's: make it after shard(), "
            "from model.parameters()"
        )
    return [names[p] for p in parameters]
