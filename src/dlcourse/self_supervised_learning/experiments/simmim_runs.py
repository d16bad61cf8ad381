"""Small trainings of SimMIM on painted pictures, and what their features are good for.

Chapter: ``120_self_supervised_learning/1c_simmim`` (trainings on the page, recorded cells).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dlcourse.datasets import Split, Splits, shapes
from dlcourse.self_supervised_learning.augmentations.batch_views import BatchViews
from dlcourse.self_supervised_learning.evaluation.fine_tuning import fine_tune
from dlcourse.self_supervised_learning.evaluation.frozen_features import features, label_subset
from dlcourse.self_supervised_learning.evaluation.nearest_neighbours import knn_accuracy
from dlcourse.self_supervised_learning.evaluation.probes import logistic_probe
from dlcourse.self_supervised_learning.experiments.masked_autoencoder_runs import standardised
from dlcourse.self_supervised_learning.pretraining import pretrain
from dlcourse.self_supervised_learning.simmim.model import SimMIM
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = [
    "FACTORS",
    "PATCH",
    "SHARES",
    "SIZE",
    "fine_tuned",
    "frozen",
    "labelled_pictures",
    "small_encoder",
    "train_simmim",
    "unlabelled_pictures",
]

SIZE, PATCH = 16, 4  # pixels; 4 × 4 patches
FACTORS = ("shape", "hue", "texture")
SHARES = (0.02, 0.1, 1.0)  # of the labels
TURN = 0.15  # how far a picture is turned at most, as a share of a whole turn

# Contestant → reading → factor → per cent of the labels → a test accuracy for each seed.
Table = dict[str, dict[str, dict[str, dict[str, list[float]]]]]

READINGS: dict[str, Callable[[Tensor], Tensor]] = {  # tokens (N, 1 + P, D) → features
    "class token": lambda tokens: tokens[:, 0],
    "mean of patches": lambda tokens: tokens[:, 1:].mean(1),
    "all patches": lambda tokens: tokens[:, 1:].flatten(1),
}


def unlabelled_pictures(n: int = 4000) -> Tensor:
    """Pictures (N, 3, 16, 16) in [0, 1] to train on without labels."""
    return shapes(9, n_train=n, n_validation=1, n_test=1, size=SIZE, max_turn=TURN).train.x


def labelled_pictures(n: int = 2000, n_test: int = 2000) -> dict[str, Splits]:
    """Others, once for each factor, with as many labels to choose by as to fit on."""
    counts = {"n_train": n, "n_validation": n, "n_test": n_test}
    return {f: shapes(0, size=SIZE, label=f, max_turn=TURN, **counts) for f in FACTORS}


def small_encoder(seed: int) -> VisionTransformer:
    """Two blocks of width 48: 40,464 weights."""
    generator = torch.Generator().manual_seed(seed)
    return VisionTransformer(
        SIZE, PATCH, 3, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2, generator=generator
    )


def train_simmim(
    images: Tensor, seed: int, *, norm_target: bool = False, steps: int = 350
) -> tuple[SimMIM, list[float]]:
    """Train one on images (N, 3, 16, 16) in [0, 1] with 60 % hidden; also the loss of each step."""
    x = standardised(images)
    generator = torch.Generator().manual_seed(seed)
    model = SimMIM(small_encoder(seed), 0.6, PATCH, norm_target=norm_target, generator=generator)
    losses = pretrain(
        model,
        lambda index, generator: model(x[index], generator=generator)[0],
        len(x),
        steps=steps,
        batch_size=64,
        lr=6e-3,
        seed=seed,
    )
    return model, losses


class _Read(nn.Module):
    """An encoder of pictures in [0, 1] to one row of features."""

    def __init__(self, encoder: VisionTransformer, reading: str = "mean of patches") -> None:
        super().__init__()
        self.encoder, self.reading = encoder, reading

    def forward(self, images: Tensor) -> Tensor:
        return READINGS[self.reading](self.encoder.forward_features(standardised(images)))


def _parts(splits: Splits, share: float, seed: int) -> tuple[Split, Split, Split]:
    """A share of the labels to fit, as many again to choose by, and the test pictures."""
    few = (label_subset(split, share, seed) for split in (splits.train, splits.validation))
    return (*few, splits.test)


def frozen(
    *,
    n: int = 4000,
    labelled: int = 2000,
    tested: int = 2000,
    steps: int = 350,
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (0, 1, 2),
) -> Table:
    """What can be read off frozen features, of pixels, a random encoder, and SimMIM by its target.

    Readings: "k-NN" (of the mean of the patches, or of pixels), and a logistic probe on the class
    token, the mean of the patches, or all patches side by side ("all patches"; of pixels, all of
    them). A probe's decay is chosen on as many labels again as it is fitted on.
    """
    images, data = unlabelled_pictures(n), labelled_pictures(labelled, tested)
    table: Table = {}

    def add(name: str, reading: str, factor: str, share: float, value: float) -> None:
        column = table.setdefault(name, {}).setdefault(reading, {}).setdefault(factor, {})
        column.setdefault(f"{100 * share:g}", []).append(value)

    def read(name: str, by_reading: dict[str, list[Tensor]], near: str, seed: int) -> None:
        for factor, splits in data.items():
            for reading, parts in by_reading.items():
                labels = zip(parts, splits, strict=True)
                rows = Splits(*(Split(x, split.y) for x, split in labels))
                for share in shares:
                    fit, choose, test = _parts(rows, share, seed)
                    probe = logistic_probe(fit, choose, test)
                    add(name, reading, factor, share, probe.test_accuracy)
                    if reading == near:
                        k = min(20, max(1, len(fit.y) // 4))
                        add(name, "k-NN", factor, share, knn_accuracy(fit, test, k=k))

    splits = data[FACTORS[0]]  # the pictures are the same for all factors
    pixels = [split.x.flatten(1) for split in splits]
    for seed in seeds:
        read("pixels", {"all patches": pixels}, "all patches", seed)
        for name, target in (
            ("random encoder", None),
            ("SimMIM, pixels", False),
            ("SimMIM, normalised", True),
        ):
            if target is None:
                encoder = small_encoder(seed)
            else:
                model, _ = train_simmim(images, seed, norm_target=target, steps=steps)
                encoder = model.encoder
            by_reading = {
                reading: [features(_Read(encoder, reading), split).x for split in splits]
                for reading in READINGS
            }
            read(name, by_reading, "mean of patches", seed)
    return table


def fine_tuned(
    *,
    n: int = 4000,
    labelled: int = 2000,
    tested: int = 2000,
    steps: int = 350,
    factor: str = "texture",
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (0, 1, 2),
    rates: Sequence[float] = (4e-3, 1.2e-2),
    label_steps: int = 1500,
) -> tuple[dict[str, dict[str, list[float]]], dict[str, dict[str, list[float]]]]:
    """Encoder and head trained on labels, from random weights and from SimMIM's.

    Both have the same views (crops, flips, color jitter), steps and rates; the rate is chosen on as
    many labels again. Returns test accuracies, start → per cent of the labels → one a seed, and in
    the same form the rates that were chosen. Starts are "random weights" and "SimMIM".
    """
    images, data = unlabelled_pictures(n), labelled_pictures(labelled, tested)[factor]
    jitter = {"jitter_probability": 0.0, "grayscale": 0.0} if factor == "hue" else {"hue": 0.5}
    view = BatchViews(SIZE, scale=(0.25, 1.0), **jitter)
    table: dict[str, dict[str, list[float]]] = {}
    chosen: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        painter, _ = train_simmim(images, seed, norm_target=True, steps=steps)
        for name, start in (
            ("random weights", lambda seed=seed: _Read(small_encoder(100 + seed))),
            ("SimMIM", lambda painter=painter: copy.deepcopy(_Read(painter.encoder))),
        ):
            for share in shares:
                done = fine_tune(
                    start, *_parts(data, share, seed), rates=rates, steps=(label_steps,),
                    batch_size=32, augment=view, seed=seed,
                )  # fmt: skip
                column = f"{100 * share:g}"
                table.setdefault(name, {}).setdefault(column, []).append(done.test_accuracy)
                chosen.setdefault(name, {}).setdefault(column, []).append(done.rate)
    return table, chosen
