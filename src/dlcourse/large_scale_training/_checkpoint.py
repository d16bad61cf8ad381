"""Crash-safe distributed checkpoints (section 119.1a).

A checkpoint is a folder::

    checkpoint/
        latest                        the name of the version that counts, replaced atomically
        step-00000100-1f6c0d42/       one complete torch.distributed.checkpoint

A new version is written beside the old one; only when every rank's data are on the disk does
``latest`` change, in one ``os.replace``, and only then is the old version removed. A process may
therefore die at any moment: ``latest`` names a complete version, the old or the new.

The data are written by torch's distributed checkpoint (DCP): each rank writes its own shards, and
whoever loads reads what *its* sharding needs, on any number of ranks.
"""

from __future__ import annotations

import io
import os
import shutil
import uuid
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

_LATEST = "latest"
_unwaited: set[Path] = set()  # folders with an asynchronous save that nobody has waited for


class CheckpointError(ValueError):
    """The checkpoint is damaged, or is of another model or optimizer."""


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
    root, version, state = _prepare(path, model, optimizer, step, extra)
    dcp.save(state, checkpoint_id=root / version)
    if _rank() == 0:
        _commit(root, version)
    if dist.is_initialized():
        dist.barrier()  # no rank goes on, and perhaps dies, before the new version counts
    return root / version


class PendingCheckpoint:
    """An asynchronous save under way. Call ``wait`` on every rank before the next save."""

    def __init__(self, root: Path, future: Future[Path], group: dist.ProcessGroup | None) -> None:
        self._root, self._future, self._group = root, future, group

    def done(self) -> bool:
        """Whether this rank's part is finished, so that ``wait`` will not take long."""
        return self._future.done()

    def wait(self) -> Path:
        """Wait until the version counts and return its folder; raises what went wrong."""
        try:
            return self._future.result()
        finally:
            _unwaited.discard(self._root)
            if self._group is not None:
                dist.barrier(group=self._group)
                dist.destroy_process_group(self._group)
                self._group = None


def save_checkpoint_async(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: Optimizer,
    *,
    step: int = 0,
    extra: Any = None,
) -> PendingCheckpoint:
    """Like ``save_checkpoint``, but training goes on while the data are written.

    The call returns when the state has been *copied* to the CPU's memory: the step after it may
    change the weights. Writing then happens in a thread, with a gloo process group of its own so
    that its messages and those of training cannot mix. A crash before the end of the writing
    leaves the previous checkpoint.
    """
    root, version, state = _prepare(path, model, optimizer, step, extra)
    group = dist.new_group(backend="gloo") if dist.is_initialized() else None
    written = dcp.async_save(state, checkpoint_id=root / version, process_group=group)
    _unwaited.add(root)
    rank = _rank()

    def finish() -> Path:
        written.result()
        if rank == 0:
            _commit(root, version)
        return root / version

    with_one_thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
    future = with_one_thread.submit(finish)
    with_one_thread.shutdown(wait=False)
    return PendingCheckpoint(root, future, group)


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
    _no_warning_about_one_process()
    version = _latest(Path(path))
    metadata = _read_metadata(version)
    _check_files(version, metadata)
    model_state = {f"model/{name}": value for name, value in get_model_state_dict(model).items()}
    _check_model(model_state, metadata)

    own = _load_own(version, metadata)
    state: dict[str, Any] = dict(model_state)
    if optimizer is not None:
        _check_optimizer(model, optimizer, own)
        state.update(_empty_optimizer_state(model, optimizer, metadata))
    dcp.load(state, checkpoint_id=version)
    set_model_state_dict(model, {name: state[f"model/{name}"] for name in _names(model_state)})
    if optimizer is not None:
        _fill_optimizer(model, optimizer, state, own["groups"])
    return {key: own[key] for key in ("step", "extra", "world_size")}


def rng_state() -> dict[str, Any]:
    """The states of the global random generators (Python, NumPy, torch, the current CUDA device),
    in a form that ``extra`` of ``save_checkpoint`` accepts."""
    import random

    import numpy as np

    name, keys, position, has_gauss, gauss = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what ``rng_state`` returned."""
    import random

    import numpy as np

    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


# --- writing -----------------------------------------------------------------------


def _prepare(
    path: str | os.PathLike[str], model: nn.Module, optimizer: Optimizer, step: int, extra: Any
) -> tuple[Path, str, dict[str, Any]]:
    root = Path(path).absolute()
    if root in _unwaited:
        raise RuntimeError(
            f"an asynchronous save to {root} is under way: call wait() on what "
            "save_checkpoint_async returned, on every rank, before the next save"
        )
    own = {
        "step": step,
        "extra": {} if extra is None else extra,
        "world_size": _world_size(),
        "optimizer": type(optimizer).__name__,
        "groups": _named_groups(model, optimizer),
    }
    state: dict[str, Any] = {f"rank/{_rank()}": _to_bytes(own)}
    state |= {f"model/{name}": value for name, value in get_model_state_dict(model).items()}
    state |= _optimizer_state(model, optimizer)
    version = [f"step-{step:08d}-{uuid.uuid4().hex[:8]}"]
    if dist.is_initialized():
        dist.broadcast_object_list(version, src=0)  # one name for all ranks
    root.mkdir(parents=True, exist_ok=True)
    _no_warning_about_one_process()
    return root, version[0], state


def _commit(root: Path, version: str) -> None:
    """Make ``version`` the one that counts, then remove the others."""
    _sync(root / version)
    beside = root / f".{_LATEST}-{version}"
    with open(beside, "w") as file:
        file.write(version)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, root / _LATEST)
    _sync(root)  # a rename is on the disk only when its folder is
    for other in (*root.glob("step-*"), *root.glob(f".{_LATEST}-*")):
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


def _to_bytes(own: dict[str, Any]) -> Tensor:
    buffer = io.BytesIO()
    torch.save(own, buffer)
    try:
        _from_bytes(buffer.getvalue())
    except Exception as error:
        raise TypeError(
            "extra (or a setting of the optimizer's groups) could be saved but not loaded again: "
            "use tensors, numbers, strings, None, and dicts, lists and tuples of these "
            f"({str(error).splitlines()[0]})"
        ) from None
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _from_bytes(data: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(data), weights_only=True)  # runs no code of the file


# --- the optimizer by name ---------------------------------------------------------
# torch's get_state_dict would do this too, but it first makes a *step* on a fresh optimizer, at
# rate zero: Adam counts it, so that a run saved before its first step continues differently, and
# Schedule-Free refuses it in eval mode. Optimizer.state_dict and load_state_dict need no step.


def _parameter_names(model: nn.Module) -> dict[nn.Parameter, str]:
    if isinstance(model, DistributedDataParallel):
        model = model.module
    return {p: _clean(name) for name, p in model.named_parameters()}


def _clean(name: str) -> str:
    """The name without what torch.compile and activation checkpointing put into it."""
    return name.replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", "")


def _ordered_names(model: nn.Module, optimizer: Optimizer) -> list[str]:
    names = _parameter_names(model)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if any(p not in names for p in parameters):
        raise ValueError(
            "the optimizer holds parameters that are not the model's: make it after shard(), "
            "from model.parameters()"
        )
    return [names[p] for p in parameters]


def _named_groups(model: nn.Module, optimizer: Optimizer) -> list[dict[str, Any]]:
    names = _ordered_names(model, optimizer)
    groups = optimizer.state_dict()["param_groups"]
    return [{**group, "params": [names[i] for i in group["params"]]} for group in groups]


def _optimizer_state(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    names = _ordered_names(model, optimizer)
    return {
        f"optimizer/{names[i]}/{key}": value
        for i, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
    }


def _empty_optimizer_state(
    model: nn.Module, optimizer: Optimizer, metadata: Metadata
) -> dict[str, Any]:
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


def _fill_optimizer(
    model: nn.Module, optimizer: Optimizer, loaded: dict[str, Any], groups: list[dict[str, Any]]
) -> None:
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
        for ours, saved in zip(_named_groups(model, optimizer), groups, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": numbered})


# --- reading -----------------------------------------------------------------------


def _latest(root: Path) -> Path:
    pointer = root / _LATEST
    if not pointer.is_file():
        raise FileNotFoundError(
            f"no checkpoint in {root}: there is no file {_LATEST!r}, so no save there was completed"
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
    ours, saved = _named_groups(model, optimizer), own["groups"]
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


def _load_own(version: Path, metadata: Metadata) -> dict[str, Any]:
    """What this rank saved beside the tensors; the first rank's if their number has changed."""
    saved = [k for k in metadata.state_dict_metadata if k.startswith("rank/")]
    key = f"rank/{_rank() if len(saved) == _world_size() else 0}"
    stored = metadata.state_dict_metadata.get(key)
    if not isinstance(stored, TensorStorageMetadata):
        raise CheckpointError(f"{version} was not written by save_checkpoint")
    state = {key: torch.empty(stored.size, dtype=torch.uint8)}
    dcp.load(state, checkpoint_id=version)
    return _from_bytes(state[key].numpy().tobytes())


def _no_warning_about_one_process() -> None:
    """DCP warns when it runs without a process group, which is meant here. For good, not in a
    block: an asynchronous save warns from its own thread."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1
