"""Loading: refuse what does not fit, then change the model and the optimizer in place.

Chapter: ``119_large_scale_training/1b_checkpoints``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.optim import Optimizer

from dlcourse.large_scale_training.checkpoints._optimizer_state import (
    empty_state,
    load_named,
    named_groups,
)
from dlcourse.large_scale_training.checkpoints._shared import (
    LATEST,
    from_bytes,
    no_warning_about_one_process,
    rank,
    world_size,
)

__all__ = ["CheckpointError", "load_checkpoint"]


class CheckpointError(ValueError):
    """The checkpoint is damaged, or is of another model or optimizer."""


def load_checkpoint(
    path: str | os.PathLike[str], model: nn.Module, optimizer: Optimizer | None = None
) -> dict[str, Any]:
    """Load the newest checkpoint in ``path`` into ``model`` and ``optimizer``, in place.

    The number of ranks and the sharding may differ from those of the save; a plain model without
    a process group loads what many ranks saved. The optimizer may be fresh or used. A checkpoint
    contains pickles: load only your own.

    Returns: ``{"step", "extra", "world_size"}``: the step, this rank's ``extra`` and the number
    of ranks that saved. If that is not today's, every rank gets the first one's ``extra``: random
    states and data positions cannot be dealt out to another number of ranks, so derive new ones.

    Raises:
        FileNotFoundError: there is no checkpoint in ``path``.
        CheckpointError: it is truncated or damaged, or of another model or optimizer; nothing
            has been changed then.
    """
    no_warning_about_one_process()
    version = _latest(Path(path))
    metadata = _read_metadata(version)
    _check_files(version, metadata)
    model_state = {f"model/{name}": value for name, value in get_model_state_dict(model).items()}
    _check_model(model_state, metadata)

    own = _load_own(version, metadata)
    state: dict[str, Any] = dict(model_state)
    if optimizer is not None:
        _check_optimizer(model, optimizer, own)
        state.update(empty_state(model, optimizer, metadata))
    dcp.load(state, checkpoint_id=version)
    set_model_state_dict(model, {name: state[f"model/{name}"] for name in _names(model_state)})
    if optimizer is not None:
        load_named(model, optimizer, state, own["groups"])
    return {key: own[key] for key in ("step", "extra", "world_size")}


# --- What is there ---------------------------------------------------------------------------


def _latest(root: Path) -> Path:
    pointer = root / LATEST
    if not pointer.is_file():
        raise FileNotFoundError(
            f"no checkpoint in {root}: there is no file {LATEST!r}, so no save there was completed"
        )
    version = root / pointer.read_text().strip()
    if not version.is_dir() or version == root:
        raise CheckpointError(f"{pointer} names {version.name!r}, which is not there")
    return version


def _read_metadata(version: Path) -> Metadata:
    try:
        return dcp.FileSystemReader(version).read_metadata()
    except Exception as error:
        raise CheckpointError(
            f"{version} is damaged: its .metadata cannot be read ({type(error).__name__}: {error})"
        ) from error


def _check_files(version: Path, metadata: Metadata) -> None:
    needed: dict[str, int] = {}
    for place in (metadata.storage_data or {}).values():
        end = place.offset + place.length
        needed[place.relative_path] = max(end, needed.get(place.relative_path, 0))
    for name, size in sorted(needed.items()):
        file = version / name
        present = file.stat().st_size if file.is_file() else 0
        if present < size:
            raise CheckpointError(
                f"{file} is truncated: {present:,} of {size:,} bytes are there; "
                "copy the checkpoint again, or load another"
            )


def _load_own(version: Path, metadata: Metadata) -> dict[str, Any]:
    """What this rank saved beside the tensors; the first rank's if their number has changed."""
    saved = [k for k in metadata.state_dict_metadata if k.startswith("rank/")]
    key = f"rank/{rank() if len(saved) == world_size() else 0}"
    stored = metadata.state_dict_metadata.get(key)
    if not isinstance(stored, TensorStorageMetadata):
        raise CheckpointError(f"{version} was not written by save_checkpoint")
    state = {key: torch.empty(stored.size, dtype=torch.uint8)}
    dcp.load(state, checkpoint_id=version)
    return from_bytes(state[key].numpy().tobytes())


# --- Whether it fits -------------------------------------------------------------------------


def _check_model(wanted: dict[str, Any], metadata: Metadata) -> None:
    stored = {k: v for k, v in metadata.state_dict_metadata.items() if k.startswith("model/")}
    problems = [f"{name} is not in it" for name in _names(wanted.keys() - stored.keys())]
    problems += [f"{name} is only in it" for name in _names(stored.keys() - wanted.keys())]
    for key in sorted(wanted.keys() & stored.keys()):
        value, there = wanted[key], stored[key]
        if isinstance(value, Tensor) and isinstance(there, TensorStorageMetadata):
            ours, theirs = (value.dtype, *value.shape), (there.properties.dtype, *there.size)
            if ours != theirs:
                problems.append(f"{_names([key])[0]} is {theirs} in it, {ours} in the model")
    _refuse(problems, "model")


def _check_optimizer(model: nn.Module, optimizer: Optimizer, own: dict[str, Any]) -> None:
    problems = []
    if type(optimizer).__name__ != own["optimizer"]:
        problems.append(f"it is of {own['optimizer']}, not {type(optimizer).__name__}")
    ours, saved = named_groups(model, optimizer), own["groups"]
    if len(ours) != len(saved):
        problems.append(f"it has {len(saved)} parameter groups, not {len(ours)}")
    else:
        for i, (a, b) in enumerate(zip(ours, saved, strict=True)):
            if sorted(a["params"]) != sorted(b["params"]):
                problems.append(f"group {i} has other parameters")
    _refuse(problems, "optimizer")


def _refuse(problems: list[str], what: str) -> None:
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"the checkpoint is of another {what}: {'; '.join(problems[:3])}{more}"
        )


def _names(keys: Any) -> list[str]:
    return sorted(key.partition("/")[2] for key in keys)
