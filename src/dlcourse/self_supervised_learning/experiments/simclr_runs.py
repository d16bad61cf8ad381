"""Small trainings of SimCLR on painted pictures: what augmentations, temperature and batch do.

Chapter: ``120_self_supervised_learning/1a_contrastive`` (trainings on the page, recorded cells).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dlcourse.datasets import Splits, shapes
from dlcourse.self_supervised_learning.augmentations.batch_views import BatchViews
from dlcourse.self_supervised_learning.contrastive.conv_net import ConvNet
from dlcourse.self_supervised_learning.contrastive.simclr import SimCLR
from dlcourse.self_supervised_learning.evaluation.frozen_features import features, label_subset
from dlcourse.self_supervised_learning.evaluation.nearest_neighbours import knn_accuracy
from dlcourse.self_supervised_learning.evaluation.probes import logistic_probe
from dlcourse.self_supervised_learning.pretraining import pretrain

__all__ = [
    "FACTORS",
    "factor_splits",
    "new_encoder",
    "temperature_and_batch",
    "train_simclr",
    "two_views",
    "what_is_kept",
]

FACTORS = ("shape", "hue", "texture")
WIDTHS = (16, 32, 64)


def two_views(x: Tensor, view: BatchViews, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two views of each image: (B, 3, S, S) → twice (B, 3, s, s)."""
    return view(torch.cat([x, x]), generator).chunk(2)


def new_encoder(seed: int) -> ConvNet:
    """The encoder of these trainings as it starts: 64 features, 23,000 weights."""
    return ConvNet(3, WIDTHS, generator=torch.Generator().manual_seed(seed))


def train_simclr(
    x: Tensor,
    seed: int,
    view: BatchViews,
    *,
    temperature: float = 0.2,
    steps: int = 120,
    batch_size: int = 128,
    lr: float = 1e-2,
) -> SimCLR:
    """SimCLR on images x (N, 3, S, S), on their device; the seed decides weights and views."""
    generator = torch.Generator().manual_seed(seed)
    model = SimCLR(
        new_encoder(seed), projection_dim=64, temperature=temperature, generator=generator
    ).to(x.device)
    pretrain(
        model,
        lambda i, g: model(*two_views(x[i], view, g)),
        len(x),
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
    )
    return model


def factor_splits(represent: Callable[[Tensor], Tensor], data: dict[str, Splits]) -> dict:
    """Features of the three splits, computed once, with the labels of each factor.

    ``data[factor]`` are the same pictures with another label each.
    """
    parts = [features(represent, part) for part in next(iter(data.values()))]
    return {
        factor: [part._replace(y=labelled.y) for part, labelled in zip(parts, splits, strict=True)]
        for factor, splits in data.items()
    }


def what_is_kept(
    choices: dict[str, BatchViews],
    *,
    n: int = 10_000,
    labelled: int = 2000,
    size: int = 24,
    steps: int = 400,
    batch_size: int = 128,
    fractions: Sequence[float] = (0.01, 0.1, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, dict[str, dict[str, dict[str, list[float]]]]]:
    """Name → reading → factor → per cent of the labels → a test accuracy for each seed.

    Rows are pixels, the untrained encoder, and SimCLR with each choice of views. Readings are
    "k-NN" and "logistic probe", whose decay is chosen on as many labels again as it is fitted on.
    """
    data = {
        f: shapes(1, n_train=n, n_validation=labelled, n_test=2000, size=size, label=f)
        for f in FACTORS
    }
    images = data["hue"].train.x
    rows: dict[str, Callable[[int], Callable[[Tensor], Tensor]]] = {
        "pixels": lambda seed: lambda x: x.flatten(1),
        "random encoder": new_encoder,
    }
    for name, view in choices.items():
        rows[name] = lambda seed, view=view: train_simclr(
            images, seed, view, steps=steps, batch_size=batch_size
        ).encoder

    few = {
        f: splits._replace(
            train=splits.train._replace(x=splits.train.x[:labelled], y=splits.train.y[:labelled])
        )
        for f, splits in data.items()
    }
    table: dict = {}
    for name, make in rows.items():
        for seed in seeds:
            run = factor_splits(make(seed), few)
            for factor, (train, validation, test) in run.items():
                for fraction in fractions:
                    fit, choose = (label_subset(s, fraction, seed) for s in (train, validation))
                    accuracy = {
                        "k-NN": knn_accuracy(fit, test, k=min(20, max(1, len(fit.y) // 4))),
                        "logistic probe": logistic_probe(fit, choose, test).test_accuracy,
                    }
                    for reading, value in accuracy.items():
                        by_factor = table.setdefault(name, {}).setdefault(reading, {})
                        column = by_factor.setdefault(factor, {})
                        column.setdefault(f"{100 * fraction:g}", []).append(value)
    return table


def temperature_and_batch(
    *,
    batches: Sequence[int] = (64, 256, 1024),
    temperatures: Sequence[float] = (0.05, 0.2, 0.5, 2.0),
    rates: Sequence[float] = (3e-3, 1e-2, 3e-2),
    pairs: int = 30_000,
    n: int = 10_000,
    size: int = 24,
    seeds: Sequence[int] = (0, 1, 2),
) -> tuple[dict[str, dict[str, list[float]]], dict[str, float]]:
    """k-NN accuracy for the texture: batch → temperature → one a seed; and each batch's rate.

    Every run sees the same number of pairs, so a small batch takes more steps. A batch's rate is
    the best of ``rates`` on validation: mean of two further seeds, at one temperature (0.2 where it
    is there).
    """
    train, validation, test = shapes(
        2, n_train=n, n_validation=1000, n_test=1000, size=size, label="texture"
    )
    bank = train._replace(x=train.x[:2000], y=train.y[:2000])
    view = BatchViews(size * 7 // 12, scale=(0.25, 1.0), hue=0.5)

    def run(batch: int, temperature: float, lr: float, seed: int, split) -> float:
        model = train_simclr(
            train.x, seed, view, temperature=temperature, batch_size=batch, lr=lr,
            steps=max(1, pairs // batch),
        )  # fmt: skip
        return knn_accuracy(features(model.encoder, bank), features(model.encoder, split))

    middle = 0.2 if 0.2 in temperatures else temperatures[0]
    grid: dict[str, dict[str, list[float]]] = {}
    chosen: dict[str, float] = {}
    for batch in batches:
        tried = {lr: sum(run(batch, middle, lr, s, validation) for s in (100, 101)) for lr in rates}
        rate = max(tried, key=tried.get)
        chosen[str(batch)] = rate
        grid[str(batch)] = {
            f"{t:g}": [run(batch, t, rate, seed, test) for seed in seeds] for t in temperatures
        }
    return grid, chosen
