"""What ``DINOLoss`` and ``iBOTLoss`` share: from the teacher's scores to its distribution.

Chapter: ``120_self_supervised_learning/1b_dino``.

Paper: Caron et al. (2021), *Emerging Properties in Self-Supervised Vision Transformers*, equations
1 and 4 (temperatures and the centre).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.self_supervised_learning.dino._shared import full_precision, has_process_group
from dlcourse.self_supervised_learning.dino.sinkhorn_knopp import sinkhorn_knopp

Centering = Literal["centering", "sinkhorn_knopp", "none"]


class TeacherTargets(nn.Module):
    """What ``DINOLoss`` and ``iBOTLoss`` share: from the teacher's scores to its distribution."""

    center: Tensor

    def __init__(
        self,
        out_dim: int,
        *,
        student_temp: float = 0.1,
        teacher_temp: float = 0.07,
        warmup_teacher_temp: float = 0.04,
        warmup_steps: int = 0,
        center_momentum: float = 0.9,
        centering: Centering = "centering",
    ) -> None:
        super().__init__()
        if out_dim < 1 or warmup_steps < 0:
            raise ValueError(
                f"need out_dim >= 1 and warmup_steps >= 0, got {out_dim} and {warmup_steps}"
            )
        if min(student_temp, teacher_temp, warmup_teacher_temp) <= 0:
            raise ValueError(
                "temperatures must be positive, got "
                f"{student_temp}, {teacher_temp} and {warmup_teacher_temp}"
            )
        if not 0 <= center_momentum < 1:
            raise ValueError(f"center_momentum must lie in [0, 1), got {center_momentum}")
        if centering not in get_args(Centering):
            raise ValueError(f"centering must be one of {get_args(Centering)}, got {centering!r}")
        self.out_dim, self.student_temp, self.teacher_temp = out_dim, student_temp, teacher_temp
        self.warmup_teacher_temp, self.warmup_steps = warmup_teacher_temp, warmup_steps
        self.center_momentum, self.centering = center_momentum, centering
        self.register_buffer("center", torch.zeros(out_dim))

    def temperature(self, step: int) -> float:
        """The teacher's: linear from warmup_teacher_temp at step 0, constant after warmup_steps."""
        if step >= self.warmup_steps:
            return self.teacher_temp
        share = step / self.warmup_steps
        return self.warmup_teacher_temp + share * (self.teacher_temp - self.warmup_teacher_temp)

    @torch.no_grad()
    def probabilities(self, outputs: Tensor, step: int = 0) -> Tensor:
        """The teacher's distributions, a constant for the gradient: (B, K) → (B, K)."""
        if self.centering == "sinkhorn_knopp":
            return sinkhorn_knopp(outputs, self.temperature(step))
        # Pₜ = softmax((gₜ − c) / τₜ); the centre stays 0 with "none"
        return F.softmax((full_precision(outputs) - self.center) / self.temperature(step), dim=-1)

    @torch.no_grad()
    def update_center(self, outputs: Tensor) -> None:
        """c ← m c + (1 − m) mean of the teacher's outputs, over all ranks. (B, K).

        Where no rank has an output (iBOT, with no patch hidden), the centre stays as it is.
        """
        if self.centering == "centering":
            mean, count = _mean_over_ranks(full_precision(outputs))
            center = full_precision(self.center)
            moved = center.lerp(mean.to(center.dtype), 1 - self.center_momentum)
            # A choice on the device: a GPU need not be waited for.
            self.center.copy_(torch.where(count > 0, moved, self.center))

    def _check(self, name: str, outputs: Tensor) -> None:
        if outputs.dim() != 2 or outputs.shape[1] != self.out_dim:
            raise ValueError(
                f"{name} must be (B, out_dim = {self.out_dim}), got {tuple(outputs.shape)}"
            )


def _mean_over_ranks(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the rows of all ranks, which may hold different numbers of them, and their number:
    (B, K) → (K,), (1,). The mean of no rows is 0.
    """
    total = x.sum(0)
    count = total.new_full((1,), x.shape[0])
    if has_process_group():
        both = torch.cat([total, count])
        dist.all_reduce(both)
        total, count = both[:-1], both[-1:]
    return total / count.clamp(min=1), count
