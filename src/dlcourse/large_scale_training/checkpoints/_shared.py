"""What saving and loading share."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

LATEST = "latest"  # the file that names the version that counts
VERSION = re.compile(r"step-\d{8,}-[0-9a-f]{8}")  # what a version's folder is called

#: Folders with an asynchronous save that nobody has waited for, by ``folder_id``.
unwaited: dict[tuple[int, int], Any] = {}


class CheckpointError(ValueError):
    """The checkpoint is damaged, or is of another model or optimizer."""


def folder_id(root: Path) -> tuple[int, int]:
    """What two spellings of one folder have in common; (0, 0) where there is no folder."""
    try:
        there = os.stat(root)
    except OSError:
        return 0, 0
    return there.st_dev, there.st_ino


# --- What a rank saves beside its tensors ------------------------------------------


def to_bytes(own: dict[str, Any]) -> Tensor:
    """What a rank saves beside its tensors, as a tensor of bytes. NumPy's numbers become Python's.

    Raises TypeError for what could not be loaded again.
    """
    buffer = io.BytesIO()
    try:
        torch.save(_plain(own), buffer)
        from_bytes(buffer.getvalue())
    except Exception as error:
        raise TypeError(
            "extra (or a setting or a state of the optimizer or the model) could not be loaded "
            "again: use tensors, numbers, strings, None, and dicts, lists and tuples of these "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def from_bytes(data: bytes) -> dict[str, Any]:
    """What ``to_bytes`` packed, tensors on the CPU; runs no code of the file."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (dict, OrderedDict):
        return type(value)((_plain(k), _plain(v)) for k, v in value.items())
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    return value


# --- The other ranks ---------------------------------------------------------------


def rank() -> int:
    """This process's number; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(value: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
    """The values of all ranks; no rank returns before all have come."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size(group)
    dist.all_gather_object(values, value, group=group)
    return values


_TOLD = (CheckpointError, FileNotFoundError, OSError, TypeError, ValueError)


def agree(problem: Exception | None, group: dist.ProcessGroup | None = None) -> None:
    """Raise on every rank if any of them has a problem, so that none waits for the others."""
    kind = next((k for k in _TOLD if isinstance(problem, k)), RuntimeError)
    found = gather(problem and (kind, str(problem)), group)
    if problem is not None:
        raise problem
    for number, other in enumerate(found):
        if other is not None:
            raise other[0](f"rank {number}: {other[1]}")


def ordinary(error: CheckpointException, doing: str) -> Exception:
    """An Exception in place of torch's BaseException, which ``except Exception`` would miss."""
    causes = [cause for cause, _ in error.failures.values()] or [error]
    cause = next((c for c in causes if isinstance(c, OSError)), causes[0])
    text = f"{doing} failed: {type(cause).__name__}: {cause}"
    return OSError(text) if isinstance(cause, OSError) else RuntimeError(text)


def no_warning_about_one_process() -> None:
    """DCP warns when it runs without a process group, which is meant here. For good, not in a
    block: an asynchronous save warns from its own thread."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
