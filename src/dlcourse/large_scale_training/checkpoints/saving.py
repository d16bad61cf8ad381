"""Saving: beside the old version, then one rename.

Chapter: ``119_large_scale_training/1b_checkpoints``.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.optim import Optimizer

from dlcourse.large_scale_training.checkpoints._optimizer_state import (
    named_groups,
    named_state,
)
from dlcourse.large_scale_training.checkpoints._shared import (
    LATEST,
    no_warning_about_one_process,
    rank,
    to_bytes,
    world_size,
)

__all__ = ["save_checkpoint"]

unwaited: set[Path] = set()  # folders with an asynchronous save that nobody has waited for


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: Optimizer,
    *,
    step: int = 0,
    extra: Any = None,
) -> Path:
    """Save a model, its optimizer and ``extra``; the previous checkpoint in ``path`` stays valid
    until the new one is complete, and is then removed.

    With a process group every rank must call it, and ``path`` must be a folder that all of them
    see. The model may be plain, sharded (``shard``), replicated, compiled or a mix.

    Args:
        path: the checkpoint's folder; created if needed.
        model, optimizer: saved with names, not positions, and not changed in any way.
        step: steps done so far.
        extra: whatever else a resumed run needs, *of this rank*: the state of the schedule, the
            scaler, the random generators (``rng_state``), the position in the data. Tensors,
            numbers, strings, None and dicts, lists and tuples of these.

    Returns: the folder of the version.

    Raises:
        TypeError: ``extra`` holds something else.
        RuntimeError: an asynchronous save to ``path`` has not been waited for.
    """
    root, version, state = prepare(path, model, optimizer, step, extra)
    dcp.save(state, checkpoint_id=root / version)
    if rank() == 0:
        commit(root, version)
    if dist.is_initialized():
        dist.barrier()  # no rank goes on, and perhaps dies, before the new version counts
    return root / version


def prepare(
    path: str | os.PathLike[str], model: nn.Module, optimizer: Optimizer, step: int, extra: Any
) -> tuple[Path, str, dict[str, Any]]:
    """The checkpoint's folder, made if needed; a new version's name; and what is to be saved."""
    root = Path(path).absolute()
    if root in unwaited:
        raise RuntimeError(
            f"an asynchronous save to {root} is under way: call wait() on what "
            "save_checkpoint_async returned, on every rank, before the next save"
        )
    own = {
        "step": step,
        "extra": {} if extra is None else extra,
        "world_size": world_size(),
        "optimizer": type(optimizer).__name__,
        "groups": named_groups(model, optimizer),
    }
    state: dict[str, Any] = {f"rank/{rank()}": to_bytes(own)}
    state |= {f"model/{name}": value for name, value in get_model_state_dict(model).items()}
    state |= named_state(model, optimizer)
    version = [f"step-{step:08d}-{uuid.uuid4().hex[:8]}"]
    if dist.is_initialized():
        dist.broadcast_object_list(version, src=0)  # one name for all ranks
    root.mkdir(parents=True, exist_ok=True)
    no_warning_about_one_process()
    return root, version[0], state


def commit(root: Path, version: str) -> None:
    """Make ``version`` the one that counts, then remove the others."""
    _sync(root / version)
    beside = root / f".{LATEST}-{version}"
    with open(beside, "w") as file:
        file.write(version)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, root / LATEST)
    _sync(root)  # a rename is on the disk only when its folder is
    for other in (*root.glob("step-*"), *root.glob(f".{LATEST}-*")):
        if other.is_dir() and other.name != version:
            shutil.rmtree(other, ignore_errors=True)
        elif other.is_file():
            other.unlink(missing_ok=True)  # left by a save that was killed here


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
