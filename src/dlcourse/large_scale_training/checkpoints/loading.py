"""Loading: refuse what is damaged or does not fit, then change model and optimizer in place.

Chapter: ``119_large_scale_training/1b_checkpoints``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.optim import Optimizer

from dlcourse.large_scale_training.checkpoints._model_state import model_state
from dlcourse.large_scale_training.checkpoints._optimizer_state import (
    described,
    empty_state,
    load_named,
    matched,
    named_groups,
)
from dlcourse.large_scale_training.checkpoints._shared import (
    LATEST,
    VERSION,
    CheckpointError,
    agree,
    folder_id,
    from_bytes,
    no_warning_about_one_process,
    ordinary,
    rank,
    unwaited,
    world_size,
)
from dlcourse.large_scale_training.checkpoints.checksums import (
    MANIFEST,
    damaged_files,
    read_manifest,
)
from dlcourse.large_scale_training.checkpoints.random_state import with_new_streams

__all__ = ["CheckpointError", "load_checkpoint"]


def load_checkpoint(
    path: str | os.PathLike[str], model: nn.Module, optimizer: Optimizer | None = None
) -> dict[str, Any]:
    """Load the newest checkpoint in ``path`` into ``model`` and ``optimizer``, in place.

    The number of ranks, the sharding and the device may differ from those of the save; a plain
    model without a process group loads what many ranks saved. The optimizer may be fresh or used,
    its parameters in another order. A checkpoint contains pickles: load only your own.

    Returns: ``{"step", "extra", "world_size"}``: the step, this rank's ``extra`` (its tensors on
    the CPU) and the number of ranks that saved. If that is not today's, every rank gets the first
    one's ``extra``, in which each ``rng_state`` is replaced by a new stream of this rank: random
    states cannot be dealt out to another number of ranks, and equal ones would drop the same
    neurons everywhere.

    Raises:
        FileNotFoundError: there is no checkpoint in ``path``.
        CheckpointError: a byte of it has changed or is missing, or it is of another model or
            optimizer; nothing has been changed then.
        RuntimeError: an asynchronous save to ``path`` has not been waited for.
    """
    no_warning_about_one_process()
    version = _verified(Path(os.path.realpath(path)))
    found = problem = None
    try:
        found = _compare(version, model, optimizer)
    except Exception as error:
        problem = error
    agree(problem)
    try:
        dcp.load(found.tensors, checkpoint_id=version)
    except CheckpointException as error:
        text = f"{ordinary(error, f'reading {version}')}; model and optimizer may be half loaded"
        raise CheckpointError(text) from error
    model.load_state_dict(
        {
            key: found.tensors.get(f"model/{name}", found.own["model"].get(name))
            for key, name in found.names.items()
        }
    )
    if optimizer is not None:
        load_named(model, optimizer, found.tensors, found.own["state"], found.own["groups"])
    extra = found.own["extra"]
    if found.own["world_size"] != world_size():
        extra = with_new_streams(extra, rank(), world_size())
    return {"step": found.own["step"], "extra": extra, "world_size": found.own["world_size"]}


# --- Is it what was saved? ---------------------------------------------------------


def _verified(root: Path) -> Path:
    """The folder of the version that counts, after each file was compared with its checksum: each
    rank reads a part of the files, and all learn what any has found."""
    version = problem = None
    try:
        if folder_id(root) in unwaited:
            raise RuntimeError(
                f"an asynchronous save to {root} is under way: call wait() on what "
                "save_checkpoint_async returned, on every rank, before you load"
            )
        version = _latest(root)
        manifest = read_manifest(version)
        damaged = damaged_files(version, manifest, sorted(manifest)[rank() :: world_size()])
        if damaged:
            raise CheckpointError(
                f"{version} is damaged: {'; '.join(damaged[:3])}. "
                "Copy the checkpoint again, or load another"
            )
    except Exception as error:
        problem = error
    agree(problem)
    return version


def _latest(root: Path) -> Path:
    pointer = root / LATEST
    if not pointer.is_file():
        complete = sorted(p.parent.name for p in root.glob(f"step-*/{MANIFEST}"))
        if complete:
            raise CheckpointError(
                f"{root} holds {complete[-1]} but no file {LATEST!r}, which was lost: write that "
                "name into it, or remove the folder to begin anew"
            )
        raise FileNotFoundError(
            f"no checkpoint in {root}: there is no file {LATEST!r}, so no save there was completed"
        )
    name = pointer.read_bytes().decode(errors="replace")
    version = root / name
    if not VERSION.fullmatch(name) or not version.is_dir():
        raise CheckpointError(f"{pointer} names {name!r}, which is not there")
    return version


# --- Does it fit? ------------------------------------------------------------------


class _Found(NamedTuple):
    own: dict[str, Any]  # what this rank saved beside the tensors
    names: dict[str, str]  # the clean name of each key of the model's state dict
    tensors: dict[str, Tensor]  # to be filled: the model's own, and room for the optimizer's


def _compare(version: Path, model: nn.Module, optimizer: Optimizer | None) -> _Found:
    try:
        metadata = dcp.FileSystemReader(version).read_metadata()
        own = _load_own(version, metadata)
    except (Exception, CheckpointException) as error:
        raise CheckpointError(
            f"{version} cannot be read, though it is whole: was it saved by another version of "
            f"torch? ({type(error).__name__}: {error})"
        ) from error
    values, names = model_state(model)
    _check_model({names[key]: value for key, value in values.items()}, own, metadata)
    tensors = {f"model/{names[k]}": v for k, v in values.items() if isinstance(v, Tensor)}
    if optimizer is not None:
        _check_optimizer(model, optimizer, own)
        tensors |= empty_state(model, optimizer, own["state"], metadata)
    return _Found(own, names, tensors)


def _load_own(version: Path, metadata: Metadata) -> dict[str, Any]:
    """What this rank saved beside the tensors; the first rank's if their number has changed."""
    saved = [k for k in metadata.state_dict_metadata if k.startswith("rank/")]
    key = f"rank/{rank() if len(saved) == world_size() else 0}"
    state = {key: torch.empty(metadata.state_dict_metadata[key].size, dtype=torch.uint8)}
    dcp.load(state, checkpoint_id=version, no_dist=True)
    return from_bytes(state[key].numpy().tobytes())


def _check_model(wanted: dict[str, Any], own: dict[str, Any], metadata: Metadata) -> None:
    stored: dict[str, Any] = dict.fromkeys(own["model"])
    for key, value in metadata.state_dict_metadata.items():
        kind, _, name = key.partition("/")
        if kind == "model":
            stored[name] = value
    problems = [f"{name} is not in it" for name in sorted(wanted.keys() - stored.keys())]
    problems += [f"{name} is only in it" for name in sorted(stored.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & stored.keys()):
        ours, theirs = _kind(wanted[name]), _kind(stored[name])
        if ours != theirs:
            problems.append(f"{name} is {theirs} in it, {ours} in the model")
    _refuse(problems, "model")


def _kind(value: Any) -> Any:
    if isinstance(value, TensorStorageMetadata):
        return (value.properties.dtype, *value.size)
    return (value.dtype, *value.shape) if isinstance(value, Tensor) else "no tensor"


def _check_optimizer(model: nn.Module, optimizer: Optimizer, own: dict[str, Any]) -> None:
    ours, saved = described(optimizer), own["optimizer"]
    if ours["name"] != saved["name"]:
        _refuse([f"it is of {saved['name']}, not {ours['name']}"], "optimizer")
    groups = named_groups(model, optimizer)
    for a, b in zip(groups, matched(groups, own["groups"]), strict=True):
        if ours["module"] != saved["module"] and a.keys() != b.keys():
            what = f"it is of {saved['module']}.{saved['name']}, whose settings are others"
            _refuse([what], "optimizer")


def _refuse(problems: list[str], what: str) -> None:
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"the checkpoint is of another {what}: {'; '.join(problems[:3])}{more}"
        )
