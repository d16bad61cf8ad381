"""Small trainings of masked autoencoders on painted pictures, and what their features are good for.

Chapter: ``120_self_supervised_learning/2_masked_autoencoders`` (trainings on the page, recorded
cells).

Pictures and labels are those of ``simclr_runs.what_is_kept``, seed by seed, so that the two tables
can stand side by side.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcourse.datasets import Split, Splits, shapes
from dlcourse.self_supervised_learning.augmentations.batch_views import BatchViews
from dlcourse.self_supervised_learning.evaluation.fine_tuning import fine_tune
from dlcourse.self_supervised_learning.evaluation.frozen_features import features, label_subset
from dlcourse.self_supervised_learning.evaluation.nearest_neighbours import knn_accuracy
from dlcourse.self_supervised_learning.evaluation.probes import logistic_probe, ridge_probe
from dlcourse.self_supervised_learning.experiments.simclr_runs import FACTORS, new_encoder
from dlcourse.self_supervised_learning.masked_autoencoders.model import MaskedAutoencoder
from dlcourse.self_supervised_learning.pretraining import pretrain
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = [
    "BUDGET",
    "Pooled",
    "as_pictures",
    "fine_tuned",
    "frozen",
    "painting_errors",
    "ratio_sweep",
    "small_autoencoder",
    "standardised",
    "supervised",
    "train_autoencoder",
]

Table = dict[str, dict[str, dict[str, dict[str, list[float]]]]]
MEAN, SPREAD = 0.26, 0.19  # of the pixels of painted pictures, about


def standardised(images: Tensor) -> Tensor:
    """Painted pictures, in [0, 1], with about mean 0 and standard deviation 1."""
    return (images - MEAN) / SPREAD


def as_pictures(x: Tensor) -> Tensor:
    """The inverse of ``standardised``."""
    return x * SPREAD + MEAN


def small_autoencoder(
    seed: int,
    mask_ratio: float = 0.75,
    *,
    norm_pix_loss: bool = True,
    size: int = 24,
    width: int = 32,
    depth: int = 2,
    decoder_dim: int = 24,
) -> MaskedAutoencoder:
    """A masked autoencoder as it starts: patches of 4 × 4, and a decoder of a single block."""
    generator = torch.Generator().manual_seed(seed)
    encoder = VisionTransformer(
        size, 4, 3, width, depth, max(2, width // 32), mlp_ratio=2, generator=generator
    )
    return MaskedAutoencoder(
        encoder, decoder_dim, 1, 2, mask_ratio, norm_pix_loss, generator=generator
    )


def train_autoencoder(
    images: Tensor,
    seed: int,
    mask_ratio: float = 0.75,
    *,
    norm_pix_loss: bool = True,
    steps: int = 1000,
    batch_size: int = 64,
    lr: float = 6e-3,
    **sizes: int,
) -> tuple[MaskedAutoencoder, list[float]]:
    """Train one on images (N, 3, S, S) in [0, 1], on their device; also the loss of each step."""
    x = standardised(images)
    model = small_autoencoder(
        seed, mask_ratio, norm_pix_loss=norm_pix_loss, size=images.shape[-1], **sizes
    ).to(x.device)
    losses = pretrain(
        model,
        lambda index, generator: model.training_loss(x[index], generator=generator),
        len(x),
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
    )
    return model, losses


class Pooled(nn.Module):
    """An encoder of pictures in [0, 1] to one row of features: the mean of its patch tokens."""

    def __init__(self, encoder: VisionTransformer) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder.forward_features(standardised(images))[:, 1:].mean(1)


@torch.no_grad()
def painting_errors(
    model: MaskedAutoencoder, images: Tensor, *, ratio: float = 0.75, seed: int = 0
) -> dict[str, float]:
    """Mean squared error of the hidden patches of pictures in [0, 1], in standardised units.

    Beside the model, which must have been trained on pixels: the mean color of the visible
    patches, and a copy of the nearest visible patch (of equally near ones, the first).

    Raises ValueError for a model with normalised targets: brightness and contrast of what it
    paints would come from the original.
    """
    if model.norm_pix_loss:
        raise ValueError("a model of normalised patches paints no pixels: norm_pix_loss=False")
    x = standardised(images)
    noise = torch.rand(
        len(x), model.encoder.num_patches, generator=torch.Generator().manual_seed(seed)
    ).to(x.device)
    painted, mask = model.reconstruct(x, ratio, noise)
    target, painted = model.target(x), model.target(painted)  # (B, N, p·p·C)
    hidden = mask.bool()

    seen = (~hidden)[..., None].to(x.dtype)
    by_pixel = target.unflatten(2, (-1, model.encoder.in_channels))  # (B, N, p·p, C)
    color = (by_pixel.mean(2) * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True)  # (B, 1, C)
    flat = color.repeat(1, 1, by_pixel.shape[2])  # (B, 1, p·p·C)

    rows, columns = model.encoder.grid
    y, z = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    places = torch.stack([y.flatten(), z.flatten()], 1).double().to(x.device)
    distance = torch.cdist(places, places).expand(len(x), -1, -1)  # (B, N, N)
    nearest = distance.masked_fill(hidden[:, None, :], torch.inf).argmin(2)  # (B, N)
    copied = target.gather(1, nearest[..., None].expand_as(target))

    def error(guess: Tensor) -> float:
        return (guess - target).square().mean(2)[hidden].mean().item()

    return {"mean color": error(flat), "nearest patch": error(copied), "model": error(painted)}


# --- Recorded: what the features are good for ------------------------------------------------


def _pictures(n: int, labelled: int, size: int) -> dict[str, Splits]:
    """The same pictures once for each factor, as in ``simclr_runs.what_is_kept``."""
    return {
        f: shapes(1, n_train=n, n_validation=labelled, n_test=2000, size=size, label=f)
        for f in FACTORS
    }


def _shares(splits: Splits, labelled: int, fraction: float, seed: int) -> tuple[Split, Split]:
    """Labels to fit, and as many again to choose by."""
    train = Split(splits.train.x[:labelled], splits.train.y[:labelled])
    return label_subset(train, fraction, seed), label_subset(splits.validation, fraction, seed)


def _add(table: Table, name: str, reading: str, factor: str, fraction: float, value: float) -> None:
    column = table.setdefault(name, {}).setdefault(reading, {}).setdefault(factor, {})
    column.setdefault(f"{100 * fraction:g}", []).append(value)


def frozen(
    *,
    n: int = 10_000,
    labelled: int = 2000,
    size: int = 24,
    steps: int = 1000,
    fractions: Sequence[float] = (0.01, 0.1, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
) -> Table:
    """What can be read off frozen features, before a training and after one on either target.

    Name → reading → factor → per cent of the labels → a test accuracy for each seed. Names are
    "random encoder", "normalised" and "pixels". Features are the mean of the patch tokens.
    Readings are "k-NN", in which nothing is chosen, and "logistic probe", whose decay is chosen on
    as many labels again as it is fitted on.
    """
    data = _pictures(n, labelled, size)
    images = data["texture"].train.x
    table: Table = {}
    for name, target in (("random encoder", None), ("normalised", True), ("pixels", False)):
        for seed in seeds:
            if target is None:
                model = small_autoencoder(seed, size=size)
            else:
                model, _ = train_autoencoder(images, seed, norm_pix_loss=target, steps=steps)
            read = [features(Pooled(model.encoder), split).x for split in data["texture"]]
            for factor, splits in data.items():
                parts = Splits(*(Split(x, s.y) for x, s in zip(read, splits, strict=True)))
                for fraction in fractions:
                    fit, choose = _shares(parts, labelled, fraction, seed)
                    near = knn_accuracy(fit, parts.test, k=min(20, max(1, len(fit.y) // 4)))
                    _add(table, name, "k-NN", factor, fraction, near)
                    probe = logistic_probe(fit, choose, parts.test).test_accuracy
                    _add(table, name, "logistic probe", factor, fraction, probe)
    return table


BUDGET = {"rates": (2e-3, 6e-3, 1.5e-2), "steps": (900,), "batch_size": 32}


def _trained_on_labels(
    name: str,
    start: Callable[[int], Callable[[], nn.Module]],
    data: Mapping[str, Splits],
    labelled: int,
    factor: str,
    fractions: Sequence[float],
    seeds: Sequence[int],
    budget: Mapping[str, Any],
) -> tuple[Table, dict[str, list[float]]]:
    """Test accuracies, and the rates that were chosen: per cent of the labels → one a seed."""
    # Views that leave the label as it is: a color jitter would take the hue away.
    jitter = {"jitter_probability": 0.0, "grayscale": 0.0} if factor == "hue" else {"hue": 0.5}
    view = BatchViews(data[factor].train.x.shape[-1], scale=(0.25, 1.0), **jitter)
    table: Table = {}
    rates: dict[str, list[float]] = {}
    for seed in seeds:
        begin = start(seed)
        for fraction in fractions:
            fit, choose = _shares(data[factor], labelled, fraction, seed)
            done = fine_tune(
                begin, fit, choose, data[factor].test, augment=view, seed=seed, **budget
            )
            _add(table, name, "fine-tuned", factor, fraction, done.test_accuracy)
            rates.setdefault(f"{100 * fraction:g}", []).append(done.rate)
    return table, rates


def fine_tuned(
    *,
    n: int = 10_000,
    labelled: int = 2000,
    size: int = 24,
    steps: int = 1000,
    factor: str = "texture",
    fractions: Sequence[float] = (0.01, 0.1, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
    budget: Mapping[str, Any] = BUDGET,
) -> tuple[Table, dict[str, list[float]]]:
    """The pre-trained encoder trained on labels; its rate is chosen on as many labels again.

    Returns a table as ``frozen`` does, with the name "MAE" and the reading "fine-tuned", and the
    rates that were chosen.
    """
    data = _pictures(n, labelled, size)

    def start(seed: int) -> Callable[[], nn.Module]:
        model, _ = train_autoencoder(data[factor].train.x, seed, steps=steps)
        return lambda: copy.deepcopy(Pooled(model.encoder))

    return _trained_on_labels("MAE", start, data, labelled, factor, fractions, seeds, budget)


def supervised(
    kind: str = "ViT",
    *,
    n: int = 10_000,
    labelled: int = 2000,
    size: int = 24,
    factor: str = "texture",
    fractions: Sequence[float] = (0.01, 0.1, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
    budget: Mapping[str, Any] = BUDGET,
) -> tuple[Table, dict[str, list[float]]]:
    """``fine_tuned`` from random weights: the same budget, views, pictures and labels.

    ``kind`` is "ViT", the masked autoencoder's encoder, or "ConvNet", the one of section 120.1a.
    Raises ValueError for another kind.
    """
    starts: dict[str, Callable[[int], nn.Module]] = {
        "ViT": lambda seed: Pooled(small_autoencoder(200 + seed, size=size).encoder),
        "ConvNet": lambda seed: new_encoder(200 + seed),
    }
    if kind not in starts:
        raise ValueError(f"kind is one of {', '.join(starts)}: got {kind!r}")
    return _trained_on_labels(
        f"supervised {kind}", lambda seed: lambda: starts[kind](seed),
        _pictures(n, labelled, size), labelled, factor, fractions, seeds, budget,
    )  # fmt: skip


# --- Recorded on a GPU: the mask ratio -------------------------------------------------------


def ratio_sweep(
    device: torch.device,
    *,
    ratios: Sequence[float] = (0.25, 0.5, 0.75, 0.9),
    seeds: Sequence[int] = (0, 1, 2),
    n: int = 20_000,
    labelled: int = 4000,
    tested: int = 2000,
    size: int = 32,
    width: int = 128,
    depth: int = 4,
    steps: int = 300,
    batch_size: int = 1024,
    lr: float = 3e-3,
    fractions: Sequence[float] = (0.01, 0.1, 1.0),
) -> tuple[Table, dict[str, MaskedAutoencoder]]:
    """Ridge probes of encoders by mask ratio, and the last model of each ratio, to look at.

    A table as ``frozen`` returns, with the reading "ridge probe"; names are "untrained" and the
    ratios. The decay is chosen on as many labels again as it is fitted on.
    """
    sizes = {"width": width, "depth": depth, "decoder_dim": width // 2}
    counts = {"n_train": n, "n_validation": labelled, "n_test": tested}
    data = {f: shapes(2, size=size, label=f, device=device, **counts) for f in FACTORS}
    train, validation, test = data["texture"]
    few = (Split(train.x[:labelled], train.y[:labelled]), validation, test)
    table: Table = {}

    def read(name: str, model: MaskedAutoencoder, seed: int) -> None:
        parts = [features(Pooled(model.encoder), split).x for split in few]
        for factor, splits in data.items():
            labelled_parts = Splits(
                *(Split(x, s.y[: len(x)]) for x, s in zip(parts, splits, strict=True))
            )
            for fraction in fractions:
                fit, choose = _shares(labelled_parts, labelled, fraction, seed)
                value = ridge_probe(fit, choose, labelled_parts.test).test_accuracy
                _add(table, name, "ridge probe", factor, fraction, value)

    for seed in seeds:
        read("untrained", small_autoencoder(100 + seed, size=size, **sizes).to(device), seed)
    last = {}
    for ratio in ratios:
        for seed in seeds:
            model, _ = train_autoencoder(
                train.x, seed, ratio, steps=steps, batch_size=batch_size, lr=lr, **sizes
            )
            read(f"{ratio:g}", model, seed)
        last[f"{ratio:g}"] = model
    return table, last
