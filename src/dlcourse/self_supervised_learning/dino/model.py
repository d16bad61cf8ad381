"""Student and teacher together: one call takes the crops of a batch and gives the student's loss.

Chapter: ``120_self_supervised_learning/1b_dino``.

Papers:
    Caron et al. (2021), *Emerging Properties in Self-Supervised Vision Transformers*, algorithm 1.
    Caron et al. (2020), SwAV (multi-crop).
    Oquab et al. (2024), *DINOv2: Learning Robust Visual Features without Supervision* (all terms).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlcourse.self_supervised_learning.dino.dino_loss import DINOLoss
from dlcourse.self_supervised_learning.dino.head import DINOHead
from dlcourse.self_supervised_learning.dino.ibot_loss import iBOTLoss
from dlcourse.self_supervised_learning.dino.koleo import koleo_loss
from dlcourse.self_supervised_learning.dino.teacher import update_teacher
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = ["DINO", "DINOTerms"]


class DINOTerms(NamedTuple):
    """The loss of a step and its parts, each a scalar; a part that is off is 0."""

    total: Tensor
    dino: Tensor
    ibot: Tensor
    koleo: Tensor


class DINO(nn.Module):
    """A student and its teacher; called with the views of a batch, it gives the student's loss.

    Args:
        encoder: images (B, C, H, W) → features (B, D). With ``patch_head`` it must also have
            ``forward_features(images, mask)`` → (B, 1 + N, D), as ``VisionTransformer`` has.
        head: of the class token.
        loss: with the head's out_dim.
        patch_head, patch_loss: iBOT's; both or neither. DINOv2 does not share the two heads.
        ibot_weight: of iBOT's term (DINOv2: 1).
        koleo_weight: of ``koleo_loss`` on the student's class tokens, summed over the global views
            (DINOv2: 0.1; 0 leaves it out).

    ``student`` and ``teacher`` are ``nn.ModuleDict`` of encoder and heads. The teacher starts as a
    copy, never requires a gradient, and stays in eval mode; ``update_teacher(momentum)`` moves
    it, after the optimizer's step. The features to use later are those of ``teacher["encoder"]``.
    The encoder's ``mask_token`` requires a gradient with iBOT, and none without.

    Raises ValueError when head and loss do not fit, or one of iBOT's two parts is missing.

    Source: Caron et al. (2021), algorithm 1; Oquab et al. (2024), section 4.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: DINOHead,
        loss: DINOLoss,
        *,
        patch_head: DINOHead | None = None,
        patch_loss: iBOTLoss | None = None,
        ibot_weight: float = 1.0,
        koleo_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if (patch_head is None) != (patch_loss is None):
            raise ValueError("iBOT needs both patch_head and patch_loss")
        for h, criterion in ((head, loss), (patch_head, patch_loss)):
            if h is not None and h.out_dim != criterion.out_dim:
                raise ValueError(
                    f"the head has {h.out_dim} outputs, its loss expects {criterion.out_dim}"
                )
        if ibot_weight < 0 or koleo_weight < 0:
            raise ValueError(f"weights must be >= 0, got {ibot_weight} and {koleo_weight}")
        for part in encoder.modules():
            if isinstance(part, VisionTransformer):
                # iBOT hides patches from the student. Without it the token would get no gradient,
                # for which DistributedDataParallel waits.
                part.mask_token.requires_grad_(patch_head is not None)
        parts = {"encoder": encoder, "head": head}
        if patch_head is not None:
            parts["patch_head"] = patch_head
        self.student = nn.ModuleDict(parts)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.loss, self.patch_loss = loss, patch_loss
        self.ibot_weight, self.koleo_weight = ibot_weight, koleo_weight

    def train(self, mode: bool = True) -> DINO:
        super().train(mode)
        self.teacher.eval()
        return self

    def update_teacher(self, momentum: float) -> None:
        """θₜ ← m θₜ + (1 − m) θₛ for encoder and heads: ``update_teacher``, the function."""
        update_teacher(self.student, self.teacher, momentum)

    def drop_prototype_gradients(self) -> None:
        """Leave the prototypes of the student's heads out of the next step of the optimizer.

        Call it between ``backward`` and the optimizer's step throughout the first epoch: DINO's
        code does so by default, since the targets are arbitrary at first and the last layer would
        follow them at once. (Gradients are dropped, and not switched off, so that
        ``DistributedDataParallel`` sees the same parameters in every step.)

        Source: DINO's code, ``freeze_last_layer`` and ``cancel_gradients_last_layer``.
        """
        for name, head in self.student.items():
            if name.endswith("head"):
                head.prototypes.grad = None

    def forward(
        self,
        global_views: Sequence[Tensor],
        local_views: Sequence[Tensor] = (),
        *,
        mask: Tensor | None = None,
        step: int = 0,
    ) -> DINOTerms:
        """The loss of one batch.

        Args:
            global_views: V batches (B, C, H, W) of the same images; teacher and student see them.
            local_views: any number of further batches, smaller ones, for the student alone.
            mask: (V·B, N), true where a patch of the global views is hidden from the student,
                view by view; needed for iBOT, as ``blob_masks`` gives it. Leave it on the CPU: its
                positions are read there, and a GPU need not be waited for.
            step: steps taken so far, for the teacher's temperature.

        Raises ValueError when the mask is missing or not wanted, or there are no two views.
        """
        if (mask is None) != (self.patch_loss is None):
            raise ValueError("iBOT needs a mask, as blob_masks gives it, and nothing else does")
        if not global_views:
            raise ValueError("the teacher needs at least one global view")
        images = torch.cat(list(global_views))  # (V·B, C, H, W)
        if mask is not None and mask.shape[0] != images.shape[0]:
            raise ValueError(
                f"the mask must have a row for each of the {images.shape[0]} global views, "
                f"got {mask.shape[0]}"
            )
        with torch.no_grad():  # the teacher: global views, whole, no gradient
            teacher_class, teacher_patches = self._encode(self.teacher, images)
            teacher = self.teacher["head"](teacher_class)  # (V·B, K)

        # The student: global views with patches hidden, then the others, one pass for each size.
        student_class, student_patches = self._encode(self.student, images, mask)
        tokens = [student_class]
        for _, group in itertools.groupby(local_views, key=lambda view: view.shape[-2:]):
            tokens.append(self._encode(self.student, torch.cat(list(group)))[0])
        student = self.student["head"](torch.cat(tokens))  # ((V + L)·B, K)
        # Sizes as a list: so the number of views is known where that of images is not (export).
        large = [view.shape[0] for view in global_views]
        every = large + [view.shape[0] for view in local_views]
        dino = self.loss(student.split(every), teacher.split(large), step)

        ibot = koleo = dino.new_zeros(())
        if mask is not None:
            hidden = mask.flatten().nonzero()[:, 0].to(images.device, non_blocking=True)
            with torch.no_grad():
                # index_select: its gradient is one sum by index, that of [hidden] sorts first
                target = teacher_patches.flatten(0, 1).index_select(0, hidden)  # (M, D)
                target = self.teacher["patch_head"](target)  # (M, K)
            guess = student_patches.flatten(0, 1).index_select(0, hidden)
            guess = self.student["patch_head"](guess)
            ibot = self.patch_loss(guess, target, mask, step)
        if self.koleo_weight:
            koleo = sum(koleo_loss(view) for view in student_class.split(large))
        total = dino + self.ibot_weight * ibot + self.koleo_weight * koleo
        return DINOTerms(total, dino, ibot, koleo)

    def _encode(
        self, network: nn.ModuleDict, images: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Class token (B, D), and patch tokens (B, N, D) where iBOT needs them."""
        if self.patch_loss is None:
            return network["encoder"](images), None
        mask = mask if mask is None else mask.to(images.device, non_blocking=True)
        tokens = network["encoder"].forward_features(images, mask)
        return tokens[:, 0], tokens[:, 1:]
