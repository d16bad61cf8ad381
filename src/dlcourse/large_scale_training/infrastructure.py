"""Distributed training: the process group, data parallelism, sharding, checkpoints (119.1a).

Chapter: ``chapters/119_large_scale_training/1a_distributed.py``. The names of this module are
what the chapter uses; ``launch`` and the checkpoints, longer, live in ``_launch`` and
``_checkpoint``, the formulas of cost in ``_costs``.

Papers: Li et al. (2020), "PyTorch Distributed: Experiences on Accelerating Data Parallel
Training"; Rajbhandari et al. (2020), "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models"; Zhao et al. (2023), "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel".
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ._checkpoint import (
    CheckpointError,
    PendingCheckpoint,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    save_checkpoint_async,
    set_rng_state,
)
from ._costs import (
    Memory,
    Plan,
    activation_bytes,
    fit_alpha_beta,
    plan,
    ring_all_reduce_time,
    time_all_reduce,
    zero_memory,
)
from ._launch import LaunchError, launch

__all__ = [
    "CheckpointError",
    "LaunchError",
    "Memory",
    "PendingCheckpoint",
    "Plan",
    "World",
    "activation_bytes",
    "distributed",
    "find_blocks",
    "fit_alpha_beta",
    "launch",
    "load_checkpoint",
    "local_memory",
    "plan",
    "replicate",
    "ring_all_reduce_time",
    "rng_state",
    "save_checkpoint",
    "save_checkpoint_async",
    "set_rng_state",
    "shard",
    "time_all_reduce",
    "zero_memory",
]

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
    # After a restart the launcher's store still holds the addresses of the ranks that died, and a
    # quick rank would try to connect to them: each attempt has keys of its own.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"attempt-{attempt}", store)
    store.set(f"world_size/{rank}", str(world_size))
    for other in range(world_size):
        try:
            claimed = int(store.get(f"world_size/{other}"))
        except dist.DistError as error:
            raise TimeoutError(
                f"WORLD_SIZE is {world_size}, but rank {other} did not come within "
                f"{timeout.total_seconds():g} s: start as many ranks as WORLD_SIZE says"
            ) from error
        if claimed != world_size:
            raise ValueError(
                f"rank {rank} has WORLD_SIZE={world_size}, rank {other} has {claimed}: start all "
                "ranks with the same number"
            )
    return store


def replicate(model: nn.Module) -> DistributedDataParallel:
    """Data parallelism: the whole model on each rank, gradients averaged during the backward pass
    (Li et al. 2020). Needs the block of ``distributed``; rank 0's weights go to all ranks.

    With each rank's loss the mean over its part of the batch, and equal parts, the averaged
    gradient is the gradient of the mean over the whole batch.
    """
    device = _group_device()
    return DistributedDataParallel(
        model.to(device), device_ids=[device.index] if device.type == "cuda" else None
    )


def shard(
    model: nn.Module,
    *,
    param_dtype: torch.dtype | None = None,
    reduce_dtype: torch.dtype | None = torch.float32,
    offload: bool = False,
) -> nn.Module:
    """Shard parameters, gradients and with them the optimizer's state over all ranks (FSDP2, which
    is stage 3 of ZeRO), in place, and return the model.

    Each block (``find_blocks``) is a unit which is gathered just before it is used and freed just
    after; what is in no block (embedding, head) goes with the root. With the whole model as one
    unit everything would be gathered at once, and nothing saved where memory peaks. Rank 0's
    weights go to all ranks first. Make the optimizer *afterwards*: the parameters are new ones.

    Args:
        param_dtype: what the gathered copies are cast to for computing, such as torch.bfloat16;
            the shards stay as they are and serve as master weights. None: no cast.
        reduce_dtype: in what gradients are summed over the ranks. None: their own.
        offload: keep the shards in the CPU's memory between uses (GPU only).

    Raises:
        RuntimeError: no process group is open, or ``offload`` without a GPU.
        ValueError: no blocks are found, or a parameter is shared between two units.
    """
    device = _group_device()
    if offload and device.type != "cuda":
        raise RuntimeError("offload=True moves shards from a GPU to the CPU; here is no GPU")
    blocks = find_blocks(model)
    _refuse_sharing(model, blocks)
    # fully_shard takes each rank's own weights for its part: unequal seeds would make a mosaic.
    with torch.no_grad():
        for tensor in chain(model.parameters(), model.buffers()):
            if not tensor.is_meta:
                dist.broadcast(tensor.detach(), src=0)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    precision = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    policy = CPUOffloadPolicy() if offload else OffloadPolicy()
    for module in (*blocks.values(), model):  # blocks first: the root takes what is left
        fully_shard(module, mesh=mesh, mp_policy=precision, offload_policy=policy)
    return model


def find_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The model's repeated blocks by name: the members, with parameters, of its outermost
    ``nn.ModuleList``s; of its outermost ``nn.Sequential``s if it has no list.

    Raises ValueError if it has neither.
    """
    for container in (nn.ModuleList, nn.Sequential):
        blocks = {
            f"{name}.{index}".lstrip("."): member
            for name, found in _outermost(model, container)
            for index, member in found.named_children()
            if any(True for _ in member.parameters())
        }
        if blocks:
            return blocks
    raise ValueError(
        f"{type(model).__name__} has no nn.ModuleList or nn.Sequential whose members could be "
        "sharded one by one: put its repeated layers into an nn.ModuleList"
    )


def _outermost(module: nn.Module, kind: type, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, kind):
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from _outermost(child, kind, f"{name}.{child_name}".lstrip("."))


def _refuse_sharing(model: nn.Module, blocks: dict[str, nn.Module]) -> None:
    owner: dict[nn.Parameter, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        unit = next((block for block in blocks if name.startswith(f"{block}.")), "the root")
        if owner.setdefault(parameter, unit) != unit:
            raise ValueError(
                f"{owner[parameter]} and {unit} share the parameter {name}, which cannot lie in "
                "two units: untie it, or keep both uses in one unit"
            )


def local_memory(model: nn.Module, optimizer: Optimizer) -> Memory:
    """Bytes that this rank holds in parameters, gradients and optimizer state, counting only its
    own shards; to be compared with ``zero_memory``."""
    parameters = list(model.parameters())
    states = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    return Memory(
        parameters=sum(map(_local_bytes, parameters)),
        gradients=sum(_local_bytes(p.grad) for p in parameters if p.grad is not None),
        optimizer=sum(map(_local_bytes, states)),
    )


def _local_bytes(tensor: torch.Tensor) -> int:
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return local.numel() * local.element_size()


def _group_device() -> torch.device:
    if not dist.is_initialized():
        raise RuntimeError("no process group: call this within `with distributed() as world:`")
    if "nccl" in str(dist.get_backend_config()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
