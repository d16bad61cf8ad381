"""Runs that fail: their progress, and what is left of a checkpoint when a save is cut off.

Chapter: ``119_large_scale_training/1b_checkpoints``.
"""

from __future__ import annotations

import math
import os
import random
import signal
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlcourse.large_scale_training.checkpoints.loading import load_checkpoint
from dlcourse.large_scale_training.checkpoints.saving import save_checkpoint

__all__ = ["kill_both", "kill_while_saving", "progress"]


def progress(
    failures: Iterable[float], interval: float, save: float, restart: float, end: float
) -> list[tuple[float, float]]:
    """Useful work against time, as the corners of a line, of a run that saves at intervals and
    goes on from the last complete save after each failure. All in one unit of time."""
    now = saved = 0.0
    corners = [(0.0, 0.0)]
    for failure in (*failures, math.inf):
        if failure >= now:  # else it came while the run was restarting, which begins again
            stop = min(failure, end)
            while now + interval + save <= stop:
                corners.append((now + interval, saved + interval))
                now += interval + save
                saved += interval
                corners.append((now, saved))
            done = saved + min(stop - now, interval)
            corners += [(min(now + interval, stop), done), (stop, done)]
            if failure >= end:
                return corners
        corners.append((failure, saved))
        now = failure + restart
        corners.append((min(now, end), saved))
        if now >= end:
            return corners
    return corners


def kill_both(folder: Path, kills: int = 20) -> tuple[tuple[int, int], tuple[int, int]]:
    """``kill_while_saving`` for ``save_checkpoint`` and for ``dcp.save`` over the same folder."""
    import torch.distributed.checkpoint as dcp

    def save_beside(folder: Path, k: int) -> None:
        save_checkpoint(folder, *_version(k), step=k)

    def load_beside(folder: Path) -> dict[str, Any]:
        model, optimizer = _version(-1)
        load_checkpoint(folder, model, optimizer)
        return model.state_dict()

    def save_over(folder: Path, k: int) -> None:
        dcp.save(_version(k)[0].state_dict(), checkpoint_id=folder)

    def load_over(folder: Path) -> dict[str, Any]:
        state = _version(-1)[0].state_dict()
        dcp.load(state, checkpoint_id=folder)
        return state

    return (
        kill_while_saving(save_beside, load_beside, folder / "beside", kills),
        kill_while_saving(save_over, load_over, folder / "over", kills),
    )


def _version(k: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model of which every number is k, so that a mixture of two versions shows."""
    model = nn.Sequential(*(nn.Linear(512, 512) for _ in range(4)))
    for p in model.parameters():
        nn.init.constant_(p, k)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def kill_while_saving(
    save: Callable[[Path, int], None],
    load: Callable[[Path], dict[str, Any]],
    folder: Path,
    kills: int,
) -> tuple[int, int]:
    """How many of the kills left a whole version in the folder, and how many did not.

    A child process saves again and again, and gets SIGKILL at a random moment. Run it in a process
    of its own, without a GPU: it forks.
    """
    torch.set_num_threads(1)  # a forked child must not need other threads
    warnings.simplefilter("ignore")  # dcp says that there is only one process
    chance = random.Random(0)
    whole = broken = 0
    save(folder, 0)
    start = time.perf_counter()
    for k in range(3):
        save(folder, k)
    a_save = (time.perf_counter() - start) / 3
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            for k in range(1, 1000):
                save(folder, k)
            os._exit(0)
        time.sleep(chance.uniform(0, 3 * a_save))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            numbers = torch.cat([t.flatten() for t in load(folder).values()])
            intact = len(numbers.unique()) == 1
        except BaseException:  # dcp's CheckpointException is no Exception
            intact = False
        whole, broken = whole + intact, broken + (not intact)
        if not intact:
            save(folder, 0)  # begin again
    return whole, broken
