"""Small runs of DINO on moved digits of 12 × 12 pixels, watched for the two ways to collapse.

Chapter: ``120_self_supervised_learning/1b_dino`` (trainings on the page).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlcourse.datasets import Splits
from dlcourse.self_supervised_learning.augmentations.batch_views import BatchViews
from dlcourse.self_supervised_learning.contrastive.conv_net import he_initialize
from dlcourse.self_supervised_learning.dino.dino_loss import DINOLoss
from dlcourse.self_supervised_learning.dino.head import DINOHead
from dlcourse.self_supervised_learning.dino.model import DINO
from dlcourse.self_supervised_learning.pretraining import pretrain

__all__ = ["PROTOTYPES", "Run", "collapse_run", "new_dino", "teacher_answers"]

PROTOTYPES = 64
VIEWS = BatchViews(12, scale=(0.6, 1.0), flip=0)  # a digit is not its mirror image
WATCHED = 256  # pictures of the validation split


class Run(NamedTuple):
    """What ``collapse_run`` returns."""

    model: DINO
    answers: Tensor  # (256, K): the teacher's, at the end
    curves: Tensor  # (3, measurements), in nats: H(P_t), KL(P_t ‖ P_s), H(mean of P_t)


def new_dino(seed: int, *, koleo_weight: float = 0.0, **loss: float | str) -> DINO:
    """DINO with an encoder of two convolutions, 32 features, and 64 prototypes."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.GELU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    he_initialize(encoder, torch.Generator().manual_seed(seed))
    head = DINOHead(32, PROTOTYPES, 128, 32, generator=torch.Generator().manual_seed(seed))
    criterion = DINOLoss(PROTOTYPES, warmup_teacher_temp=loss["teacher_temp"], **loss)
    return DINO(encoder, head, criterion, koleo_weight=koleo_weight)


@torch.no_grad()
def teacher_answers(model: DINO, data: Splits) -> tuple[Tensor, Tensor]:
    """P_t on one view of 256 validation pictures, and log P_s on another view of the same.

    A softmax for every method: what Sinkhorn–Knopp makes of a batch uses all prototypes alike by
    construction, and would say nothing about the teacher. Where nothing is centred c is 0.
    """
    one, other = (
        VIEWS(data.validation.x[:WATCHED], torch.Generator().manual_seed(i)) for i in (1, 2)
    )
    scores = model.teacher["head"](model.teacher["encoder"](one))
    p = ((scores - model.loss.center) / model.loss.teacher_temp).softmax(-1)
    scores = model.student["head"](model.student["encoder"](other))
    return p, (scores / model.loss.student_temp).log_softmax(-1)


def _entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum(-1)


def collapse_run(
    data: Splits,
    centering: str,
    teacher_temp: float,
    seed: int,
    *,
    steps: int = 100,
    koleo_weight: float = 0.0,
) -> Run:
    """Train a small DINO on two views of each of 64 pictures a step; measure every 5 steps."""
    model = new_dino(
        seed, koleo_weight=koleo_weight, centering=centering, teacher_temp=teacher_temp
    )
    curves = []

    def loss(indices: Tensor, generator: torch.Generator) -> Tensor:
        views = VIEWS(data.train.x[indices].repeat(2, 1, 1, 1), generator)
        return model(views.chunk(2)).total

    def after_step(step: int) -> None:
        model.update_teacher(0.99)
        if step % 5 == 0:
            p, log_q = teacher_answers(model, data)
            h = _entropy(p).mean()
            cross_entropy = -(p * log_q).sum(-1).mean()
            curves.append(torch.stack([h, cross_entropy - h, _entropy(p.mean(0))]))

    pretrain(
        model, loss, len(data.train.y), steps=steps, batch_size=64, lr=0.01, max_grad_norm=3.0,
        seed=seed, after_step=after_step,
    )  # fmt: skip
    return Run(model, teacher_answers(model, data)[0], torch.stack(curves, 1))
