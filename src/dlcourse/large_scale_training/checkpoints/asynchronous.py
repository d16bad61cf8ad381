"""Saving while training goes on.

Chapter: ``119_large_scale_training/1b_checkpoints``.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.optim import Optimizer

from dlcourse.large_scale_training.checkpoints._shared import rank
from dlcourse.large_scale_training.checkpoints.saving import commit, prepare, unwaited

__all__ = ["PendingCheckpoint", "save_checkpoint_async"]


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
            unwaited.discard(self._root)
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
    root, version, state = prepare(path, model, optimizer, step, extra)
    group = dist.new_group(backend="gloo") if dist.is_initialized() else None
    written = dcp.async_save(state, checkpoint_id=root / version, process_group=group)
    unwaited.add(root)
    is_first = rank() == 0

    def finish() -> Path:
        written.result()
        if is_first:
            commit(root, version)
        return root / version

    with_one_thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
    future = with_one_thread.submit(finish)
    with_one_thread.shutdown(wait=False)
    return PendingCheckpoint(root, future, group)
