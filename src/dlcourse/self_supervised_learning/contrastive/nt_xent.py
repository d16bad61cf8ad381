"""The NT-Xent loss, readable and fast, and the views of all processes for it.

Chapter: ``120_self_supervised_learning/1a_contrastive``.

Papers:
    Chen et al. (2020), *A Simple Framework for Contrastive Learning of Visual Representations*
    (NT-Xent: equation 1 and algorithm 1).
    van den Oord, Li, Vinyals (2018), *Representation Learning with Contrastive Predictive Coding*
    (InfoNCE, the loss of which NT-Xent is a form).
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from dlcourse.self_supervised_learning.patches import widened

__all__ = ["check_pairs", "directions", "gather_across_processes", "nt_xent", "nt_xent_reference"]


def nt_xent_reference(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """NT-Xent as the paper writes it, one anchor and one similarity after the other.

    Arguments, result and errors are those of ``nt_xent``. It is slow, and its ``exp`` overflows at
    small temperatures: it is there to be read, and to be compared with.

    Source: Chen et al. (2020), equation 1 and algorithm 1.
    """
    check_pairs(z1, z2, temperature)
    b = len(z1)
    z = torch.cat([z1, z2])  # (2B, D): i and i + B are the two views of one image
    total = z.new_zeros(())
    for i in range(2 * b):
        j = (i + b) % (2 * b)
        positive, denominator = z.new_zeros(()), z.new_zeros(())
        for k in range(2 * b):
            if k == i:  # [k ≠ i]: a view is no partner for itself
                continue
            # s_ik = z_iᵀ z_k / (‖z_i‖ ‖z_k‖)
            similarity = z[i] @ z[k] / (z[i].norm() * z[k].norm())
            term = torch.exp(similarity / temperature)
            denominator = denominator + term
            if k == j:
                positive = term
        # ℓ_ij = −log( exp(s_ij / τ) / Σ_{k ≠ i} exp(s_ik / τ) )
        total = total - torch.log(positive / denominator)
    # L = 1 / 2B · Σ ℓ_ij, over both directions of every pair
    return total / (2 * b)


def nt_xent(z1: Tensor, z2: Tensor, temperature: float | Tensor = 0.5) -> Tensor:
    """Normalised temperature-scaled cross-entropy over the pairs of a batch, in nats: a scalar.

    Each of the 2B views asks which of the other 2B − 1 is its partner. The views need not be
    normalised: only their directions count. The arithmetic is done in float32 or better, also
    for half-precision views and under autocast. A row of zeros has no direction: its similarity to
    all others is 0, and its gradient that of a row of length 1.

    Args:
        z1, z2: (B, D) floating point, B >= 2. Row i of both comes from image i.
        temperature: τ > 0; a 0-dimensional tensor may be given, and then gets a gradient.

    Raises:
        TypeError: z1 or z2 is not floating point.
        ValueError: the shapes differ or are not (B, D), B is 1, or τ is not positive.

    Source: Chen et al. (2020), equation 1.
    """
    check_pairs(z1, z2, temperature)
    b = len(z1)
    z = directions(torch.cat([z1, z2]))  # (2B, D)
    with torch.autocast(z.device.type, enabled=False):
        logits = z @ z.T / temperature  # (2B, 2B), s_ik / τ
        itself = torch.eye(2 * b, dtype=torch.bool, device=z.device)
        logits = logits.masked_fill(itself, -math.inf)  # exp(−∞) = 0: leaves the sum
        partner = torch.arange(2 * b, device=z.device).roll(b)  # b, …, 2b − 1, 0, …, b − 1
        return F.cross_entropy(logits, partner)


def directions(z: Tensor) -> Tensor:
    """Each row over its length, in float32 or wider: (B, D) → (B, D).

    A row shorter than 1e-12 is left as it is, as if its length were 1. Divided by a least length,
    as ``F.normalize`` does, it would get a gradient of 1e12.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = widened(z)
        length = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        return z / torch.where(length < 1e-12, 1.0, length)


def check_pairs(z1: Tensor, z2: Tensor, temperature: float | Tensor = 1.0) -> None:
    for z in (z1, z2):
        if not z.is_floating_point():
            raise TypeError(f"views must be floating point, got {z.dtype}: pass projections")
    if z1.dim() != 2 or z1.shape != z2.shape:
        raise ValueError(
            "views must be (B, D), and row i of both from image i: got shapes "
            f"{tuple(z1.shape)} and {tuple(z2.shape)}"
        )
    if len(z1) < 2:
        raise ValueError(
            f"a contrastive loss needs other images to contrast with, got a batch of {len(z1)}: "
            "use at least 2 images, better hundreds"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {float(temperature):g}")


class _AllGather(torch.autograd.Function):
    """Rows of all processes, in the order of their ranks; the gradient finds its way back."""

    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        ctx.rows = len(z)
        parts = [torch.empty_like(z) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # Every process used every row: a row's gradient is the sum of what all of them found.
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        first = dist.get_rank() * ctx.rows
        return gradient[first : first + ctx.rows]


def gather_across_processes(z: Tensor) -> Tensor:
    """The views of all processes: (B, D) → (world size · B, D), differentiable.

    Without a process group, or with one process, z itself. B must be the same on every rank.
    If every rank computes ``nt_xent(gather_across_processes(z1), gather_across_processes(z2))``
    and DistributedDataParallel averages the gradients, they are those of one process that has the
    whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return z
    return _AllGather.apply(z)
