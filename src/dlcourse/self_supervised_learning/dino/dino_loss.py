"""DINO's loss: the teacher on one view against the student on another one.

Chapter: ``120_self_supervised_learning/1b_dino``.

Paper: Caron et al. (2021), *Emerging Properties in Self-Supervised Vision Transformers*.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcourse.self_supervised_learning.dino._targets import TeacherTargets

__all__ = ["DINOLoss"]


class DINOLoss(TeacherTargets):
    """Cross-entropy between the teacher on one view and the student on another one.

    With the scores gₜ, gₛ of the two networks,

        Pₜ = softmax((gₜ − c) / τₜ),   Pₛ = softmax(gₛ / τₛ),
        loss = mean over pairs of views t ≠ s and images of  −Σₖ Pₜ⁽ᵏ⁾ log Pₛ⁽ᵏ⁾.

    Args:
        out_dim: K.
        student_temp: τₛ.
        teacher_temp: τₜ after the warm-up; smaller than τₛ, or nothing sharpens.
        warmup_teacher_temp: τₜ at step 0.
        warmup_steps: steps in which τₜ moves linearly from one to the other.
        center_momentum: m in c ← m c + (1 − m) · mean of the teacher's scores.
        centering: "centering" (DINO), "sinkhorn_knopp" (DINOv2) or "none" (which collapses).

    ``center`` is a buffer: it is saved, and it is the same on all ranks. One batch in which the
    teacher says NaN or infinity makes it NaN for good, as in the authors' code: when a loss is not
    finite, go back to a checkpoint, or set ``center`` to 0; leaving out the batch is not enough.

    Source: Caron et al. (2021), equations 1 to 4 and algorithm 1.
    """

    def forward(
        self,
        student_outputs: Sequence[Tensor],
        teacher_outputs: Sequence[Tensor],
        step: int = 0,
    ) -> Tensor:
        """The loss, a scalar; afterwards, in training mode, the centre takes in this batch.

        Args:
            student_outputs: the student's scores, one (B, K) for each view.
            teacher_outputs: the teacher's, one (B, K) for each global view. They belong to the
                *first* views of the student, in the same order: pair (i, i) is the same view
                twice, and is left out.
            step: steps taken so far, for the teacher's temperature.

        Raises ValueError when no pair of different views is left, or a shape does not fit.
        """
        if len(teacher_outputs) < 1 or len(student_outputs) < max(2, len(teacher_outputs)):
            raise ValueError(
                "the student sees every view of the teacher and at least one other: got "
                f"{len(student_outputs)} student and {len(teacher_outputs)} teacher views"
            )
        for outputs in (*student_outputs, *teacher_outputs):
            self._check("outputs", outputs)
            if outputs.shape[0] != teacher_outputs[0].shape[0]:
                raise ValueError("all views must show the same B images, in the same order")

        teacher = torch.cat(list(teacher_outputs)).detach()  # (T·B, K)
        student = torch.stack(list(student_outputs))  # (S, B, K)
        p = self.probabilities(teacher, step).unflatten(0, (len(teacher_outputs), -1))  # (T, B, K)
        log_q = F.log_softmax(student.to(p.dtype) / self.student_temp, dim=-1)  # (S, B, K)
        pairs = [(t, s) for t in range(len(p)) for s in range(len(log_q)) if t != s]
        # −Σₖ Pₜ log Pₛ, averaged over images and pairs of views
        loss = sum(-(p[t] * log_q[s]).sum(-1).mean() for t, s in pairs) / len(pairs)
        if self.training:
            self.update_center(teacher)
        return loss
