"""Saving: beside the old version, then one rename.

Chapter: ``119_large_scale_training/1b_checkpoints``.
"""

from __future__ import annotations

import contextlib
import fcntl
import operator
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.optim import Optimizer

from dlcourse.large_scale_training.checkpoints._model_state import (
    check_saveable,
    model_state,
)
from dlcourse.large_scale_training.checkpoints._optimizer_state import (
    described,
    named_groups,
    named_state,
)
from dlcourse.large_scale_training.checkpoints._shared import (
    LATEST,
    VERSION,
    agree,
    folder_id,
    gather,
    no_warning_about_one_process,
    ordinary,
    rank,
    to_bytes,
    unwaited,
    world_size,
)
from dlcourse.large_scale_training.checkpoints.checksums import (
    MANIFEST,
    checksum,
    write_manifest,
)

__all__ = ["save_checkpoint"]

_OURS = re.compile(r"__\d+_\d+\.distcp|\.metadata(\.tmp)?|" + MANIFEST)  # files of a version


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: Optimizer,
    *,
    step: int = 0,
    extra: Any = None,
) -> Path:
    """Save a model, its optimizer and ``extra``; the previous checkpoint in ``path`` stays valid
    until the new one is complete, and is then removed. Files of others in ``path`` stay.

    With a process group every rank must call it, and ``path`` must be a folder that all of them
    see. The model may be plain, sharded (``shard``), replicated, compiled or a mix.

    Args:
        path: the checkpoint's folder; created if needed.
        model, optimizer: saved with names, not positions, and not changed in any way.
        step: steps done so far, a whole number of at least 0.
        extra: whatever else a resumed run needs, *of this rank*: the state of the schedule, the
            scaler, the random generators (``rng_state``), the position in the data. Tensors,
            numbers, strings, None and dicts, lists and tuples of these.

    Returns: the folder of the version.

    Raises:
        TypeError: ``extra``, model or optimizer hold something that could not come back equal, or
            ``step`` is no whole number.
        ValueError: ``step`` is below 0.
        RuntimeError: an asynchronous save to ``path`` has not been waited for, or another process
            does not finish its save to ``path``.
        OSError: the disk is full, or the folder can't be written. The previous checkpoint counts.
    """
    root, version, state, turn = prepare(path, model, optimizer, step, extra)
    with turn:
        return complete(root, version, lambda: dcp.save(state, checkpoint_id=root / version))


def prepare(
    path: str | os.PathLike[str], model: nn.Module, optimizer: Optimizer, step: int, extra: Any
) -> tuple[Path, str, dict[str, Any], contextlib.ExitStack]:
    """The checkpoint's folder, made if needed; a new version's name; what is to be saved; and the
    turn to save to the folder, which must be closed."""
    no_warning_about_one_process()
    root, state, problem = Path(os.path.realpath(path)), {}, None
    turn = contextlib.ExitStack()
    try:
        if folder_id(root) in unwaited:
            raise RuntimeError(
                f"an asynchronous save to {root} is under way: call wait() on what "
                "save_checkpoint_async returned, on every rank, before the next save"
            )
        step = _count(step)
        state = _collect(model, optimizer, step, extra)
        root.mkdir(parents=True, exist_ok=True)
        if rank() == 0:
            turn.enter_context(_turn(root))
    except Exception as error:
        problem = error
    with turn:  # given back where this fails
        agree(problem)
        version = [f"step-{step:08d}-{uuid.uuid4().hex[:8]}"]
        if dist.is_initialized():
            dist.broadcast_object_list(version, src=0)  # one name for all ranks
        return root, version[0], state, turn.pop_all()


def _count(step: Any) -> int:
    try:
        count = int(operator.index(step))  # NumPy's and a tensor's too
    except TypeError:
        raise TypeError(f"step must be a whole number, got {step!r}") from None
    if count < 0:  # no name of a version: it would be saved, and not be found
        raise ValueError(f"step must be at least 0, got {step!r}")
    return count


@contextlib.contextmanager
def _turn(root: Path, patience: float = 30.0) -> Iterator[None]:
    """The right to save to a folder. One process has it at a time, and with its death it ends.

    A job that was started again can meet the old one, which still saves. A commit removes all
    versions but its own: each would remove the other's, and none would be left.
    """
    folder = os.open(root, os.O_RDONLY)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                raise RuntimeError(
                    f"another process has been saving to {root} for {patience:g} s: two jobs "
                    "need two folders, and a job that was started again the end of the old one"
                ) from None
            except OSError:
                pass  # a file system without locks
            break
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_UN)  # also where a forked process has the folder open
        os.close(folder)


def _collect(model: nn.Module, optimizer: Optimizer, step: int, extra: Any) -> dict[str, Any]:
    """Tensors by key, and among them the bytes of all the rest."""
    values, names = model_state(model)
    tensors, rest = named_state(model, optimizer)
    own = {
        "step": step,
        "extra": {} if extra is None else extra,
        "world_size": world_size(),
        "optimizer": described(optimizer),
        "groups": named_groups(model, optimizer),
        "state": rest,
        "model": {names[k]: v for k, v in values.items() if not isinstance(v, Tensor)},
    }
    for key, value in values.items():
        if isinstance(value, Tensor):
            check_saveable(names[key], value)
            tensors[f"model/{names[key]}"] = value
    return {f"rank/{rank()}": to_bytes(own), **tensors}


def complete(
    root: Path, version: str, write: Callable[[], Any], group: dist.ProcessGroup | None = None
) -> Path:
    """Write the shards, then their checksums, then the name of the version that counts.

    Where that fails on any rank, every rank raises and what was written is removed."""
    problem, written = None, {}
    try:
        write()
        own = (root / version).glob(f"__{rank()}_*")
        written = {file.name: checksum(file) for file in own}
    except CheckpointException as error:
        problem = ordinary(error, f"the save to {root / version}")
    except Exception as error:
        problem = error
    try:
        agree(problem, group)
        files = {name: sums for part in gather(written, group) for name, sums in part.items()}
        if rank() == 0:
            try:
                files[".metadata"] = checksum(root / version / ".metadata")
                write_manifest(root / version, files)
                commit(root, version)
            except Exception as error:
                problem = error
        agree(problem, group)  # no rank goes on, and perhaps dies, before the new version counts
    except Exception:
        if rank() == 0:
            remove(root / version)
        raise
    return root / version


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
    for other in root.iterdir():
        if VERSION.fullmatch(other.name) and other.name != version and not other.is_symlink():
            remove(other)
        elif VERSION.fullmatch(other.name.removeprefix(f".{LATEST}-")) and other.is_file():
            other.unlink(missing_ok=True)  # left by a save that was killed here


def remove(version: Path) -> None:
    """Remove the files that a save has written, and their folder if nothing else is in it."""
    with contextlib.suppress(OSError):
        # Without its checksums a version is not complete: they go first.
        for file in sorted(version.iterdir(), key=lambda f: f.name != MANIFEST):
            if _OURS.fullmatch(file.name):
                file.unlink(missing_ok=True)
        version.rmdir()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
