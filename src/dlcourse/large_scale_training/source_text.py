"""Text to train on that lies on every machine: the source code of Python's standard library.

Chapter: ``119_large_scale_training`` (sections 1a and 1c).
"""

from __future__ import annotations

import functools
import sysconfig
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["source_code_batch"]


def source_code_batch(step: int, batch: int, sequence: int) -> tuple[Tensor, Tensor]:
    """Bytes of Python's own standard library: real text that lies on every machine.

    Returns inputs and targets, each (batch, sequence) of 0 .. 255, the same for the same ``step``.
    """
    data = _source_code()
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(data) - sequence - 1, (batch,), generator=generator)
    rows = torch.stack([data[s : s + sequence + 1] for s in starts.tolist()]).long()
    return rows[:, :-1], rows[:, 1:]


@functools.cache
def _source_code() -> Tensor:
    folder = Path(sysconfig.get_path("stdlib"))
    text = b"".join(file.read_bytes() for file in sorted(folder.glob("*.py"))[:100])
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)
