"""iBOT's loss: the same cross-entropy, for patches that are hidden from the student.

Chapter: ``120_self_supervised_learning/1b_dino``.

Paper: Zhou et al. (2022), *iBOT: Image BERT Pre-Training with Online Tokenizer*.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dlcourse.self_supervised_learning.dino._targets import TeacherTargets

__all__ = ["iBOTLoss"]


class iBOTLoss(TeacherTargets):
    """The same cross-entropy for patches that are hidden from the student and not from the teacher.

        loss = 1/B Σᵢ 1/nᵢ Σ over the nᵢ hidden patches of image i of  −Σₖ Pₜ⁽ᵏ⁾ log Pₛ⁽ᵏ⁾

    so each image counts the same, however many of its patches are hidden. An image with none of
    them hidden adds nothing, and is counted in B. A batch with none hidden at all has a loss of 0
    and leaves the centre as it is.

    Arguments as those of ``DINOLoss``. Centre and Sinkhorn–Knopp act on patches, not on images.

    Source: Zhou et al. (2022), section 3; Oquab et al. (2024), section 4.
    """

    def forward(
        self, student_outputs: Tensor, teacher_outputs: Tensor, mask: Tensor, step: int = 0
    ) -> Tensor:
        """The loss, a scalar; afterwards, in training mode, the centre takes in this batch.

        Args:
            student_outputs, teacher_outputs: (M, K), the scores at the M hidden patches, image by
                image: ``head(tokens[mask])`` (what is visible need not pass the head).
            mask: (B, N), true where the student's patch was hidden; M of them are true.
            step: steps taken so far, for the teacher's temperature.

        Raises ValueError when a shape does not fit.
        """
        self._check("student_outputs", student_outputs)
        self._check("teacher_outputs", teacher_outputs)
        if student_outputs.shape != teacher_outputs.shape:
            raise ValueError(
                f"student and teacher must give the same patches, got {len(student_outputs)} "
                f"and {len(teacher_outputs)}"
            )
        if mask.dim() != 2:
            raise ValueError(f"mask must be (B, N), got {tuple(mask.shape)}")
        mask = mask.bool()
        hidden = mask.sum(1, keepdim=True).clamp(min=1)  # (B, 1): nᵢ
        weight = (1 / hidden).expand(mask.shape)[mask]  # (M,)
        if len(weight) != len(student_outputs):
            raise ValueError(
                f"{len(weight)} patches are hidden in the mask, {len(student_outputs)} were given: "
                "pass tokens[mask] through the head, and the same mask here"
            )
        teacher = teacher_outputs.detach()
        cross_entropy = self.cross_entropy(student_outputs, teacher, step)
        weight = weight.to(cross_entropy.device, cross_entropy.dtype, non_blocking=True)
        loss = (cross_entropy * weight).sum() / mask.shape[0]
        if self.training:
            self.update_center(teacher)
        return loss

    def cross_entropy(self, student_outputs: Tensor, teacher_outputs: Tensor, step: int) -> Tensor:
        """−Σₖ Pₜ log Pₛ of each patch: (M, K), (M, K) → (M,)."""
        p = self.probabilities(teacher_outputs, step)
        log_q = F.log_softmax(student_outputs.to(p.dtype) / self.student_temp, dim=-1)
        return -(p * log_q).sum(-1)
