"""CLIP's loss over the pairs of all processes, with the gradients of one process that has them all.

Chapter: ``121_multimodal_fusion/2a_clip``.

Papers:
    Radford et al. (2021), section 2.5 (each GPU computes the similarities of its own pairs alone).
    Ilharco et al. (2021), *OpenCLIP* (``local_loss`` with ``gather_with_grad``).
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from dlcourse.multimodal_fusion.clip.checks import check_features, widened
from dlcourse.multimodal_fusion.clip.loss import clip_loss

__all__ = ["clip_loss_gathered", "gather_features"]


class _Gather(torch.autograd.Function):
    """Rows of all processes, in the order of their ranks; every rank's gradient comes back."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # My rows are negatives on every rank: their gradient is the sum of what all ranks found.
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        first = dist.get_rank() * ctx.rows
        return gradient[first : first + ctx.rows]


def _check_ranks(x: Tensor, error: Exception | None = None) -> None:
    """Raise on every rank where one rank has an ``error``, or batches differ in size. A rank that
    raises alone would leave the others waiting for its features."""
    here = torch.tensor([len(x) if error is None else -1], device=x.device)
    sizes = [torch.empty_like(here) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, here)
    sizes = torch.cat(sizes).tolist()
    if error is not None:
        raise error
    if -1 in sizes:
        raise ValueError(f"rank {sizes.index(-1)} has features that do not fit: it says why")
    if len(set(sizes)) > 1:
        raise ValueError(
            f"the ranks have batches of {sizes} pairs: give each the same, for example with "
            "drop_last=True in the loader"
        )


def gather_features(x: Tensor) -> Tensor:
    """The features of all processes: (B, D) → (world size · B, D), differentiable.

    Without a process group, or with one process, x itself.

    Raises ValueError, on every rank, where ranks have batches of different sizes.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    _check_ranks(x)
    return _Gather.apply(x)


def clip_loss_gathered(
    image_features: Tensor, text_features: Tensor, logit_scale: float | Tensor
) -> Tensor:
    """This rank's part of ``clip_loss`` over the pairs of all ranks: a scalar, in nats.

    Each rank compares its own B pictures with all captions and its own B captions with all
    pictures: B × (world size · B) logits, not the square of all. The mean of the results over the
    ranks is ``clip_loss`` of the joined batch. If DistributedDataParallel averages the gradients,
    they are those of one process with the joined batch. Without a process group it is
    ``clip_loss``.

    Raises, on every rank:
        TypeError, ValueError: as ``clip_loss``; ranks with batches of different sizes; features of
            another rank that do not fit.

    Source: Radford et al. (2021), section 2.5; the gradients that come back: Ilharco et al. (2021).
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return clip_loss(image_features, text_features, logit_scale)
    error = None
    try:
        check_features(image_features, text_features)
    except (TypeError, ValueError) as found:
        error = found
    _check_ranks(image_features, error)
    x, y = widened(image_features), widened(text_features)
    with torch.autocast(x.device.type, enabled=False):
        both = _Gather.apply(torch.cat([x, y], 1))  # (W·B, 2D): one message for both
        all_x, all_y = both.tensor_split([x.shape[1]], 1)
        # pair i of this rank is pair rank · B + i of all
        target = torch.arange(len(x), device=x.device) + dist.get_rank() * len(x)
        captions = F.cross_entropy(logit_scale * (x @ all_y.T), target)
        pictures = F.cross_entropy(logit_scale * (y @ all_x.T), target)
        return (captions + pictures) / 2
