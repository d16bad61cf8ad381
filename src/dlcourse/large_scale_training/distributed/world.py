"""The process group: who this process is, how many there are, and on which device.

Chapter: ``119_large_scale_training/1a_distributed``.

Paper: Li et al. (2020), "PyTorch Distributed: Experiences on Accelerating Data Parallel Training".
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

__all__ = ["World", "distributed"]

#: Called where the block of ``distributed`` ends without an error, while the group is still open.
at_end: list[Callable[[], None]] = []

_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """This process's place among the processes of the job."""

    rank: int  # of all processes, 0 .. world_size − 1
    local_rank: int  # of those on this machine: the index of this process's GPU
    world_size: int
    device: torch.device


@contextlib.contextmanager
def distributed(backend: str | None = None, *, timeout: float = 120.0) -> Iterator[World]:
    """Open the process group for the block and close it afterwards.

    Who and how many we are comes from the variables which ``torchrun`` and ``launch`` set, never
    from the program: only the launcher knows how many processes it started.

    Args:
        backend: "nccl" (GPUs; CPU tensors then go over gloo) or "gloo" (CPU). None: nccl where
            there is a GPU.
        timeout: seconds that ranks wait for each other, at the start and in each collective.

    Raises:
        RuntimeError: the variables are missing; nccl is asked for where there is no GPU or too
            few; a group is open already.
        ValueError: the variables contradict each other or those of another rank.
        TimeoutError: not all WORLD_SIZE ranks came within ``timeout``.
    """
    if dist.is_initialized():
        raise RuntimeError("a process group is open already: leave its block first")
    rank, local_rank, world_size = _read_variables()
    device, backends = _choose_device(backend, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # before the group is made: NCCL takes the current device
    store = _meet(rank, world_size, timedelta(seconds=timeout))
    dist.init_process_group(
        backends,
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout),
        device_id=device if device.type == "cuda" else None,
    )
    try:
        yield World(rank, local_rank, world_size, device)
        for finish in at_end:
            finish()
        dist.barrier()  # rank 0 may hold the store: it must not leave while others still use it
    finally:
        dist.destroy_process_group()


def _read_variables() -> tuple[int, int, int]:
    missing = [name for name in _VARIABLES if not os.environ.get(name)]
    if missing:
        raise RuntimeError(
            f"no {', '.join(missing)} in the environment: this process was not started as a rank. "
            "Start the script with `torchrun --nproc-per-node N script.py`, or call launch(fn, N)"
        )
    numbers = {}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"):
        if not os.environ[name].isdigit():
            raise ValueError(f"{name} must be a whole number, not {os.environ[name]!r}")
        numbers[name] = int(os.environ[name])
    rank, world_size = numbers["RANK"], numbers["WORLD_SIZE"]
    if not rank < world_size:
        raise ValueError(
            f"RANK={rank} does not fit WORLD_SIZE={world_size}: ranks are 0 to WORLD_SIZE - 1"
        )
    return rank, numbers["LOCAL_RANK"], world_size


def _choose_device(backend: str | None, local_rank: int) -> tuple[torch.device, str]:
    if backend not in (None, "gloo", "nccl"):
        raise ValueError(f"backend must be 'nccl', 'gloo' or None, not {backend!r}")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if backend == "gloo" or (backend is None and gpus == 0):
        return torch.device("cpu"), "gloo"
    if gpus == 0:
        raise RuntimeError("backend 'nccl' needs a GPU and torch sees none: use backend='gloo'")
    if local_rank >= gpus:
        raise RuntimeError(
            f"LOCAL_RANK={local_rank}, but this machine has {gpus} GPUs and each rank needs its "
            "own: start fewer ranks, or use backend='gloo'"
        )
    # Gloo beside NCCL: asynchronous checkpoints and tensors on the CPU need it.
    return torch.device("cuda", local_rank), "cpu:gloo,cuda:nccl"


def _meet(rank: int, world_size: int, timeout: timedelta) -> dist.Store:
    """Connect to the store and make sure that every rank is there and means the same world.

    ``init_process_group`` alone would wait in silence until its time-out."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    launcher_has_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        store = dist.TCPStore(
            address,
            port,
            is_master=rank == 0 and not launcher_has_store,
            timeout=timeout,
            wait_for_workers=False,
        )
    except dist.DistError as error:
        raise TimeoutError(
            f"rank {rank} found no store at MASTER_ADDR:MASTER_PORT = {address}:{port} within "
            f"{timeout.total_seconds():g} s: is rank 0 running, is the port open? ({error})"
        ) from error
    session = _agree(store, rank, world_size, timeout)
    return dist.PrefixStore(f"group-{session}", store)


def _agree(store: dist.Store, rank: int, world_size: int, timeout: timedelta) -> str:
    """A name for this meeting which all ranks that are alive share, and nobody of an earlier one.

    After a restart, or when machines have gone or come, the launcher's store still holds what
    earlier ranks wrote. The count of restarts in the environment cannot tell the meetings apart:
    each machine's launcher counts its own. So the ranks agree by a challenge. Each writes a token
    that nobody else can know. Rank 0 publishes the tokens it has read, under a name of its own; a
    rank that finds *its* token there knows that this rank 0 is alive, and answers under that name;
    when all have answered, rank 0 says so. A token of the dead is never answered: rank 0 reads
    again until its successor has replaced it. One rank reads p values, the others one each.
    """
    until = time.monotonic() + timeout.total_seconds()
    seconds = f"{timeout.total_seconds():g} s"
    token = uuid.uuid4().hex
    store.set(f"token/{rank}", token)
    if rank == 0:
        return _gather(store, token, world_size, until, seconds)
    answered = other = None
    while time.monotonic() < until:
        if store.check(["meeting"]):
            meeting = json.loads(store.get("meeting"))
            session, other = meeting["session"], len(meeting["tokens"])
            if answered != session and meeting["tokens"].get(str(rank)) == token:
                store.set(f"{session}/answer/{rank}", str(world_size))
                answered = session
            if answered == session and store.check([f"{session}/end"]):
                problem = store.get(f"{session}/end").decode()
                if problem:
                    raise ValueError(problem)
                return session
        time.sleep(0.02)
    hint = f" (the last meeting was of {other} ranks)" if other not in (None, world_size) else ""
    raise TimeoutError(
        f"WORLD_SIZE is {world_size}, but not all ranks had come within {seconds}, as rank {rank} "
        f"saw it: start as many ranks as WORLD_SIZE says, all with the same number{hint}"
    )


def _gather(store: dist.Store, session: str, world_size: int, until: float, seconds: str) -> str:
    """Rank 0's part of ``_agree``."""
    others = list(range(1, world_size))
    published: dict[str, str] | None = None
    answers: dict[int, int] = {}
    missing = others
    while True:
        here = [r for r in others if store.check([f"token/{r}"])] if missing else others
        read = store.multi_get([f"token/{r}" for r in here]) if here else []
        tokens = {str(r): value.decode() for r, value in zip(here, read, strict=True)}
        if tokens != published:  # first, or somebody has come in the place of somebody
            meeting = {"session": session, "tokens": {"0": session, **tokens}}
            store.set("meeting", json.dumps(meeting))
            published = tokens
        for r in others:
            if r not in answers and store.check([f"{session}/answer/{r}"]):
                answers[r] = int(store.get(f"{session}/answer/{r}"))
        missing = [r for r in others if r not in answers]
        wrong = next((r for r in answers if answers[r] != world_size), None)
        if wrong is not None:
            problem = (
                f"rank 0 has WORLD_SIZE={world_size}, rank {wrong} has {answers[wrong]}: start all "
                "ranks with the same number"
            )
            store.set(f"{session}/end", problem)
            raise ValueError(problem)
        if not missing:
            store.set(f"{session}/end", "")
            return session
        if time.monotonic() > until:
            raise TimeoutError(
                f"WORLD_SIZE is {world_size}, but rank {missing[0]} did not come within "
                f"{seconds}: start as many ranks as WORLD_SIZE says"
            )
        time.sleep(0.02)
