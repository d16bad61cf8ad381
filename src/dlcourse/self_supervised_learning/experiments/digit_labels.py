"""What DINO's features of handwritten digits are worth with few and with many labels.

Chapter: ``120_self_supervised_learning/1b_dino`` (a recorded cell).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcourse.datasets import Split, Splits
from dlcourse.self_supervised_learning.augmentations.batch_views import BatchViews
from dlcourse.self_supervised_learning.contrastive.conv_net import he_initialize
from dlcourse.self_supervised_learning.dino.dino_loss import DINOLoss
from dlcourse.self_supervised_learning.dino.head import DINOHead
from dlcourse.self_supervised_learning.dino.model import DINO
from dlcourse.self_supervised_learning.evaluation.fine_tuning import fine_tune
from dlcourse.self_supervised_learning.evaluation.frozen_features import features, label_subset
from dlcourse.self_supervised_learning.evaluation.nearest_neighbours import knn_accuracy
from dlcourse.self_supervised_learning.evaluation.probes import logistic_probe
from dlcourse.self_supervised_learning.pretraining import pretrain

__all__ = ["digit_encoder", "digits_by_labels", "pretrain_dino"]

VIEWS = BatchViews(28, scale=(0.5, 1.0), flip=0)  # a digit is not its mirror image
TUNING_SEED = 100  # rates and numbers of steps are chosen with it, results are of others


def digit_encoder(seed: int, widths: Sequence[int] = (16, 32, 64)) -> nn.Module:
    """Images (B, 1, 28, 28) to features (B, widths[-1]); no norm, so no image sees another."""
    layers: list[nn.Module] = []
    for before, width in zip((1, *widths), widths):
        layers += [nn.Conv2d(before, width, 5 if before == 1 else 3, 2, padding=1), nn.GELU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    he_initialize(net, torch.Generator().manual_seed(seed))
    return net


def pretrain_dino(x: Tensor, seed: int, *, lr: float, steps: int, batch_size: int) -> nn.Module:
    """The teacher's encoder after DINO on two views of images x (N, 1, 28, 28), no labels."""
    encoder, prototypes = digit_encoder(seed), 64
    width = encoder[-4].out_channels
    generator = torch.Generator().manual_seed(seed)
    head = DINOHead(width, prototypes, 128, 32, generator=generator)
    loss = DINOLoss(prototypes, warmup_teacher_temp=0.03, teacher_temp=0.03)
    model = DINO(encoder, head, loss)

    def of_batch(indices: Tensor, generator: torch.Generator) -> Tensor:
        return model(VIEWS(x[indices].repeat(2, 1, 1, 1), generator).chunk(2)).total

    pretrain(
        model, of_batch, len(x), steps=steps, batch_size=batch_size, lr=lr, max_grad_norm=3.0,
        seed=seed, after_step=lambda taken: model.update_teacher(0.99),
    )  # fmt: skip
    return model.teacher["encoder"].requires_grad_(True)


def digits_by_labels(
    data: Splits,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    fractions: Sequence[float] = (0.01, 0.1, 1.0),
    pretraining_rates: Sequence[float] = (3e-3, 1e-2, 3e-2),
    pretraining_steps: int = 500,
    rates: Sequence[float] = (1e-2, 3e-2, 1e-1),
    steps: Sequence[int] = (300, 1000),
    batch_size: int = 128,
    neighbours: Sequence[int] = (1, 5, 20),
) -> dict[str, Any]:
    """Test accuracies by contestant and number of labels, and what was chosen.

    Pixels, the untrained encoder and DINO's are read by a vote of neighbours and by a logistic
    probe; from random weights and from DINO's, encoder and linear layer are trained together, on
    the same views. All that is chosen (k; the probe's decay; rate and steps) is chosen on
    validation, of which as many labels are given as of the training split, as far as it has them.
    The rate of DINO itself is chosen once, by k-NN with the middle one of ``fractions``; that,
    and rate and steps of the trainings, with seeds beside those that are reported.

    Returns a dict: ``accuracy``, contestant → per fraction, one value a seed; ``labels`` per
    fraction, to fit and to choose; ``chosen``.
    """
    train, validation, test = data

    def cut(split: Split, fraction: float, seed: int) -> Split:
        share = fraction * len(train.y) / len(split.y)
        return label_subset(split, min(1.0, share), seed)

    def best_vote(fit: Split, choose: Split, test: Split) -> float:
        counts = [k for k in neighbours if k <= len(fit.y)]
        k = max(counts, key=lambda k: knn_accuracy(fit, choose, k=k))
        return knn_accuracy(fit, test, k=k)

    def teacher(seed: int, lr: float) -> nn.Module:
        return pretrain_dino(
            train.x, seed, lr=lr, steps=pretraining_steps, batch_size=batch_size
        )

    middle = sorted(fractions)[len(fractions) // 2]
    tried = {lr: teacher(TUNING_SEED, lr) for lr in pretraining_rates}

    def by_neighbours(encoder: nn.Module) -> float:
        parts = [features(encoder, s) for s in (train, validation)]
        fit, choose = (cut(s, middle, TUNING_SEED) for s in parts)
        return max(knn_accuracy(fit, choose, k=k) for k in neighbours if k <= len(fit.y))

    lr = max(tried, key=lambda rate: by_neighbours(tried[rate]))
    teachers = {seed: teacher(seed, lr) for seed in seeds}

    accuracy: dict[str, list[list[float]]] = {}
    chosen: dict[str, Any] = {"DINO's rate": lr}
    readings: dict[str, Callable[[int], Callable[[Tensor], Tensor]]] = {
        "pixels": lambda seed: lambda x: x.flatten(1),
        "untrained encoder": digit_encoder,
        "DINO": teachers.__getitem__,
    }
    for name, make in readings.items():
        votes, probes = ([[] for _ in fractions] for _ in range(2))
        for seed in seeds:
            parts = [features(make(seed), s) for s in data]
            for row, fraction in enumerate(fractions):
                fit, choose = (cut(s, fraction, seed) for s in parts[:2])
                votes[row].append(best_vote(fit, choose, parts[2]))
                probes[row].append(logistic_probe(fit, choose, parts[2]).test_accuracy)
        accuracy[f"{name}, k-NN"], accuracy[f"{name}, probe"] = votes, probes

    starts = {
        "from scratch": lambda seed: lambda: digit_encoder(seed),
        "DINO, fine-tuned": lambda seed: lambda: copy.deepcopy(
            teachers[seed] if seed in teachers else tried[lr]
        ),
    }
    for name, start in starts.items():
        accuracy[name] = []
        for fraction in fractions:

            def run(seed: int, rates: Sequence[float], steps: Sequence[int], fraction=fraction,
                    start=start):  # fmt: skip
                return fine_tune(
                    start(seed), cut(train, fraction, seed), cut(validation, fraction, seed), test,
                    rates=rates, steps=steps, batch_size=batch_size // 2, augment=VIEWS, seed=seed,
                )  # fmt: skip

            best = run(TUNING_SEED, rates, steps)
            chosen[f"{name}, {fraction:g}"] = [best.rate, best.steps]
            accuracy[name].append(
                [run(seed, [best.rate], [best.steps]).test_accuracy for seed in seeds]
            )
    labels = [[len(cut(s, f, 0).y) for s in (train, validation)] for f in fractions]
    return {"accuracy": accuracy, "labels": labels, "chosen": chosen}
