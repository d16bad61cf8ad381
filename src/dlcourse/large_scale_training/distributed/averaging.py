"""One gradient from many parts: of unequal size, or of several micro-batches.

Chapter: ``119_large_scale_training/1a_distributed``.

Paper: Goyal et al. (2017), "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", section 3
(the mean over all workers, and what unequal parts do to it).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

__all__ = ["batch_part", "global_mean", "reduces_gradients"]


def batch_part(count: int, rank: int, world_size: int) -> slice:
    """Which of ``count`` examples are those of ``rank``: every example has one rank, and the
    numbers of two ranks differ by one at most. (``torch.chunk`` can give fewer parts than asked.)

    A rank gets an empty slice where there are fewer examples than ranks.
    Raises ValueError for a negative count, or a rank that is none of ``world_size``.
    """
    if count < 0 or not 0 <= rank < world_size:
        raise ValueError(f"count {count} must be >= 0 and rank {rank} one of {world_size}")
    return slice(count * rank // world_size, count * (rank + 1) // world_size)


def global_mean(total: Tensor, count: int | Tensor) -> Tensor:
    """The loss to call ``backward`` on, so that the gradient which DDP and FSDP average over the
    ranks is that of the mean over all examples (or tokens) of all ranks, whatever each has:

        p · (sum of this rank's losses) / (number of examples on all p ranks).

    Its own mean over the ranks is the global mean loss. Call it on every rank of the group.

    Args:
        total: sum of the losses of this rank's examples, a scalar; 0 · (something with a graph)
            on a rank that has none, since all ranks must take part in the backward pass.
        count: how many these are.

    Raises ValueError where no rank has an example.
    """
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    everywhere = torch.as_tensor(count, dtype=torch.float64, device=total.device).clone()
    if ranks > 1:
        dist.all_reduce(everywhere)
    if not everywhere > 0:
        raise ValueError("no rank has an example: there is no mean")
    return total * (ranks / everywhere).to(total.dtype)


@contextlib.contextmanager
def reduces_gradients(model: nn.Module, reduce: bool) -> Iterator[None]:
    """Whether backward passes in the block sum the gradients over the ranks.

    When gradients of k micro-batches are accumulated, only the last needs to: with ``reduce`` False
    for the others there is one reduction a step and not k, at the price of whole gradients in
    memory (sharded models hold them unsharded until then). ``model`` is of ``replicate`` or
    ``shard``; for any other there is nothing to reduce.
    """
    if isinstance(model, DistributedDataParallel):
        with contextlib.nullcontext() if reduce else model.no_sync():
            yield
    elif isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(reduce)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)
    else:
        yield
