"""Sinkhorn–Knopp: assignments that use all prototypes alike.

Chapter: ``120_self_supervised_learning/1b_dino``.

Papers:
    Caron et al. (2020), *Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments* (SwAV: three iterations).
    Oquab et al. (2024), *DINOv2: Learning Robust Visual Features without Supervision*.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

from dlcourse.self_supervised_learning.dino._shared import full_precision, has_process_group

__all__ = ["sinkhorn_knopp"]


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Soft assignments that use all prototypes alike: (B, K) → (B, K), rows sum to 1.

    Starts from exp(logits / temperature) and scales, in turn, the columns to equal sums and the
    rows to sum 1. In the limit each column sums to B / K; after a few iterations nearly. It is
    computed in logarithms, so nothing can overflow or become 0 / 0. Where torch.distributed is
    initialised, B counts the rows of all ranks.

    Raises ValueError for logits that are not (B, K), temperature <= 0 or iterations < 1.

    Source: Caron et al. (2020), section 3.1; Oquab et al. (2024), section 4.
    """
    if logits.dim() != 2:
        raise ValueError(f"logits must be (B, K), got {tuple(logits.shape)}")
    if temperature <= 0 or iterations < 1:
        raise ValueError(
            f"need temperature > 0 and iterations >= 1, got {temperature} and {iterations}"
        )
    log_q = full_precision(logits) / temperature
    row = log_q.new_zeros(len(log_q), 1)  # logarithm of what each row is multiplied by
    for _ in range(iterations):
        column = -_logsumexp_over_ranks(log_q + row)  # (1, K): now each column sums to 1
        row = -torch.logsumexp(log_q + column, 1, keepdim=True)  # (B, 1): and now each row
    return (log_q + row + column).exp()


def _logsumexp_over_ranks(x: Tensor) -> Tensor:
    """log Σ exp(x) over the rows of all ranks: (B, K) → (1, K)."""
    if not has_process_group():
        return torch.logsumexp(x, 0, keepdim=True)
    largest = x.amax(0, keepdim=True) if len(x) else x.new_full((1, x.shape[1]), -math.inf)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    total = (x - largest).exp().sum(0, keepdim=True)
    dist.all_reduce(total)
    return largest + total.log()
