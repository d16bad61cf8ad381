"""What saving and loading share."""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

LATEST = "latest"  # the file that names the version that counts


def to_bytes(own: dict[str, Any]) -> Tensor:
    """What a rank saves beside its tensors, as a tensor of bytes.

    Raises TypeError for what could not be loaded again.
    """
    buffer = io.BytesIO()
    torch.save(own, buffer)
    try:
        from_bytes(buffer.getvalue())
    except Exception as error:
        raise TypeError(
            "extra (or a setting of the optimizer's groups) could be saved but not loaded again: "
            "use tensors, numbers, strings, None, and dicts, lists and tuples of these "
            f"({str(error).splitlines()[0]})"
        ) from None
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def from_bytes(data: bytes) -> dict[str, Any]:
    """What ``to_bytes`` packed; runs no code of the file."""
    return torch.load(io.BytesIO(data), weights_only=True)


def no_warning_about_one_process() -> None:
    """DCP warns when it runs without a process group, which is meant here. For good, not in a
    block: an asynchronous save warns from its own thread."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")


def rank() -> int:
    """This process's number; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1
