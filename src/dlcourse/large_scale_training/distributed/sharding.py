"""Data parallelism: the whole model on each rank (DDP), or a part of it (FSDP2).

Chapter: ``119_large_scale_training/1a_distributed``.

Papers: Li et al. (2020), "PyTorch Distributed: Experiences on Accelerating Data Parallel
Training"; Rajbhandari et al. (2020), "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models"; Zhao et al. (2023), "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel".
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from dlcourse.large_scale_training.distributed.memory import Memory

__all__ = ["find_blocks", "local_memory", "replicate", "shard"]


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
    mesh: DeviceMesh | None = None,
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
        mesh: the ranks to shard over. None: all. With two dimensions the model is replicated over
            the first and sharded over the second (hybrid sharding, HSDP).

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
    if mesh is None:
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
