"""The model's state by names that do not depend on how the model is wrapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DataParallel, DistributedDataParallel

_PUT_IN = ("_orig_mod.", "_checkpoint_wrapped_module.")  # by torch.compile, checkpoint_wrapper


def clean_names(model: nn.Module) -> Callable[[str], str]:
    """A function that takes out of a parameter's name what wrappers have put into it:
    torch.compile, activation checkpointing and data parallelism, in any nesting.

    Raises TypeError for FSDP1, whose parameters are not the model's.
    """
    replicated = []
    for path, module in model.named_modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            raise TypeError("checkpoints take models sharded by shard() (FSDP2), not by FSDP1")
        if isinstance(module, DistributedDataParallel | DataParallel):
            replicated.append(f"{path}.".lstrip("."))

    def without_wrappers(name: str) -> str:
        for text in _PUT_IN:
            name = name.replace(text, "")
        return name

    inwards_first = sorted(map(without_wrappers, replicated), key=len, reverse=True)

    def clean(name: str) -> str:
        name = without_wrappers(name)
        for prefix in inwards_first:
            if name.startswith(f"{prefix}module."):
                name = prefix + name[len(prefix) + len("module.") :]
        return name

    return clean


def parameter_names(model: nn.Module) -> dict[nn.Parameter, str]:
    """The clean name of each parameter; of a shared one, the first."""
    clean = clean_names(model)
    return {p: clean(name) for name, p in model.named_parameters()}


def model_state(model: nn.Module) -> tuple[dict[str, Any], dict[str, str]]:
    """``model.state_dict()``, and the clean name of each of its keys."""
    clean, state = clean_names(model), model.state_dict()
    names = {key: clean(key) for key in state}
    if len(set(names.values())) < len(names):
        twice = sorted(n for n in names.values() if list(names.values()).count(n) > 1)
        raise ValueError(f"two entries of the model are called {twice[0]} without their wrappers")
    return state, names


def check_saveable(name: str, value: Tensor) -> None:
    """Raises TypeError for a tensor that would not come back equal."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        kind = "quantized" if value.is_quantized else "meta" if value.is_meta else value.layout
        raise TypeError(f"{name} cannot be saved: it is a tensor of kind {kind}, not a dense one")
    if not isinstance(value, DTensor) and any(
        stride == 0 and size > 1 for stride, size in zip(value.stride(), value.shape, strict=True)
    ):
        raise TypeError(
            f"{name} cannot be saved: it was made by expand, and nothing can be written into it "
            "when it is loaded; make it with .clone()"
        )
