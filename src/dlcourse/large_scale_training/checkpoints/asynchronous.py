"""Saving while training goes on.

Chapter: ``119_large_scale_training/1b_checkpoints``.
"""

from __future__ import annotations

import atexit
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.optim import Optimizer

from dlcourse.large_scale_training.checkpoints._shared import (
    agree,
    folder_id,
    ordinary,
    unwaited,
)
from dlcourse.large_scale_training.checkpoints.saving import complete, prepare
from dlcourse.large_scale_training.distributed import world

__all__ = ["PendingCheckpoint", "save_checkpoint_async"]


class PendingCheckpoint:
    """An asynchronous save under way. Call ``wait`` on every rank before the next save or load;
    the block of ``distributed`` does so at its end."""

    def __init__(self, root: Path, future: Future[Path], group: dist.ProcessGroup | None) -> None:
        self._future, self._group = future, group
        self._key = folder_id(root)
        if _wait_for_all not in world.at_end:  # the first one of this process
            world.at_end.append(_wait_for_all)
            atexit.register(_tell_what_was_lost)
        unwaited[self._key] = self

    def done(self) -> bool:
        """Whether this rank's part is finished, so that ``wait`` will not take long."""
        return self._future.done()

    def wait(self) -> Path:
        """Wait until the version counts and return its folder; raises what went wrong."""
        try:
            return self._future.result()
        finally:
            unwaited.pop(self._key, None)
            if self._group is not None and dist.is_initialized():
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
    root, version, state, turn = prepare(path, model, optimizer, step, extra)
    written = problem = None
    with turn:
        group = dist.new_group(backend="gloo") if dist.is_initialized() else None
        try:
            written = dcp.async_save(state, checkpoint_id=root / version, process_group=group)
        except CheckpointException as error:
            problem = ordinary(error, f"the save to {root / version}")
        except Exception as error:
            problem = error
        agree(problem)
        with_one_thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        turn_of_thread = turn.pop_all()

        def finish() -> Path:
            with turn_of_thread:
                return complete(root, version, written.result, group)

        future = with_one_thread.submit(finish)
        with_one_thread.shutdown(wait=False)
    return PendingCheckpoint(root, future, group)


def _wait_for_all() -> None:
    """At the end of the process group's block, which the writing needs."""
    for pending in list(unwaited.values()):
        pending.wait()


def _tell_what_was_lost() -> None:
    """At the end of the program, when its threads are done: a failure nobody has asked about."""
    for pending in list(unwaited.values()):
        if pending.done() and (error := pending._future.exception()):
            print(
                f"an asynchronous checkpoint was lost, since nobody called wait(): {error!r}",
                file=sys.stderr,
            )
