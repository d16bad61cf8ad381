"""One encoder, one set of images, every method of the chapter: who keeps what?

Chapter: ``120_self_supervised_learning/0_overview``.

The encoder, the images, the number of steps and the optimizer are the same for all; only the task
differs. What the encoder has learned is then asked by a linear probe, for each factor that the
images were made from and for several numbers of labels.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.datasets import Split, Splits, shapes
from dlcourse.self_supervised_learning.augmentations import BatchViews
from dlcourse.self_supervised_learning.contrastive import SimCLR
from dlcourse.self_supervised_learning.dino import DINO, DINOHead, DINOLoss, momentum_schedule
from dlcourse.self_supervised_learning.evaluation import features, label_subset, linear_probe
from dlcourse.self_supervised_learning.masked_autoencoders import MaskedAutoencoder
from dlcourse.self_supervised_learning.pretraining import pretrain
from dlcourse.self_supervised_learning.simmim import SimMIM
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer, initialize

METHODS = ("random", "SimCLR", "DINO", "SimMIM", "MAE")
ROWS = ("DINO", "SimCLR", "SimMIM", "MAE", "from scratch", "random", "pixels")  # longest first
FACTORS = ("shape", "hue", "texture")
FRACTIONS = (0.01, 0.1, 1.0)
MAX_TURN = 0.15  # shapes turned all the way round ask for many more steps


@dataclass(frozen=True)
class Setting:
    """Sizes that all methods share; the defaults are those of the recorded comparison."""

    image_size: int = 32
    patch_size: int = 4
    embed_dim: int = 128
    depth: int = 4
    num_heads: int = 4
    steps: int = 1500
    batch_size: int = 256
    device: str = "cuda"

    def encoder(self, seed: int) -> VisionTransformer:
        """A fresh encoder, the same for the same seed."""
        vit = VisionTransformer(
            self.image_size,
            self.patch_size,
            embed_dim=self.embed_dim,
            depth=self.depth,
            num_heads=self.num_heads,
            generator=torch.Generator().manual_seed(seed),
        )
        return vit.to(self.device)


def pretrained(method: str, images: Tensor, setting: Setting, seed: int) -> VisionTransformer:
    """The encoder after pre-training with one of METHODS on images (N, 3, S, S), without labels.

    Raises ValueError for another method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    encoder = setting.encoder(seed)
    if method == "random":
        return encoder
    generator = torch.Generator().manual_seed(seed)
    size, width = setting.image_size, setting.embed_dim
    after_step = None
    kept = encoder
    if method == "SimCLR":
        view = BatchViews(size, scale=(0.2, 0.7), hue=0.5)
        model: nn.Module = SimCLR(encoder, temperature=0.2, generator=generator)

        def loss(i: Tensor, g: torch.Generator) -> Tensor:
            return model(view(images[i], g), view(images[i], g))

    elif method == "DINO":
        large = BatchViews(size, scale=(0.3, 0.7), hue=0.5)
        small = BatchViews(size // 2, scale=(0.1, 0.3), hue=0.5)
        prototypes = 256
        head = DINOHead(width, prototypes, hidden_dim=512, bottleneck_dim=64, generator=generator)
        model = DINO(encoder, head, DINOLoss(prototypes, teacher_temp=0.04))
        kept = model.teacher["encoder"]
        taken = 0

        def loss(i: Tensor, g: torch.Generator) -> Tensor:
            views = [large(images[i], g) for _ in range(2)], [small(images[i], g) for _ in range(2)]
            return model(*views, step=taken).total

        def after_step(step: int) -> None:
            nonlocal taken
            taken = step
            model.update_teacher(momentum_schedule(step, setting.steps, start=0.99))

    elif method == "SimMIM":
        model = SimMIM(encoder, mask_patch_size=2 * setting.patch_size, generator=generator)

        def loss(i: Tensor, g: torch.Generator) -> Tensor:
            return model(images[i], generator=g)[0]

    else:
        model = MaskedAutoencoder(
            encoder, decoder_dim=96, decoder_depth=2, decoder_heads=3, generator=generator
        )

        def loss(i: Tensor, g: torch.Generator) -> Tensor:
            return model.training_loss(images[i], generator=g)

    fit(model.to(setting.device), loss, len(images), setting, seed, after_step=after_step)
    return kept


def supervised(train: Split, setting: Setting, seed: int) -> nn.Module:
    """The same encoder with a linear classifier, trained from scratch on the labels of ``train``,
    with mild crops: half as many steps as pre-training takes."""
    view = BatchViews(setting.image_size, scale=(0.6, 1.0), jitter_probability=0.0, grayscale=0.0)
    classifier = nn.Linear(setting.embed_dim, int(train.y.max()) + 1).to(setting.device)
    initialize(classifier, torch.Generator(setting.device).manual_seed(seed))
    model = nn.Sequential(setting.encoder(seed), classifier)

    def loss(i: Tensor, g: torch.Generator) -> Tensor:
        return F.cross_entropy(model(view(train.x[i], g)).float(), train.y[i])

    fit(model, loss, len(train.y), replace(setting, steps=max(1, setting.steps // 2)), seed)
    return model


def fit(
    model: nn.Module,
    loss: Callable[[Tensor, torch.Generator], Tensor],
    n: int,
    setting: Setting,
    seed: int,
    lr: float = 1e-3,
    after_step: Callable[[int], None] | None = None,
) -> None:
    """``pretrain`` in bfloat16 autocast where there is a GPU."""
    device = torch.device(setting.device)

    def autocast_loss(i: Tensor, g: torch.Generator) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return loss(i, g)

    pretrain(
        model,
        autocast_loss,
        n,
        steps=setting.steps,
        batch_size=min(setting.batch_size, n),
        lr=lr,
        max_grad_norm=1.0,
        seed=seed,
        after_step=after_step,
    )


@torch.no_grad()
def accuracy(model: nn.Module, split: Split) -> float:
    """Share of the images that a classifier (B, C, H, W) → (B, classes) puts in the right class."""
    right = [
        (model(x).argmax(1) == y).sum()
        for x, y in zip(split.x.split(512), split.y.split(512), strict=True)
    ]
    return float(torch.stack(right).sum()) / len(split.y)


def readings(encoder: VisionTransformer) -> dict[str, Callable[[Tensor], Tensor]]:
    """Ways to read a representation off an encoder."""

    def tokens(x: Tensor) -> Tensor:
        return encoder.forward_features(x)

    return {
        "class token": lambda x: tokens(x)[:, 0],
        "mean of patches": lambda x: tokens(x)[:, 1:].mean(1),
        "all patches": lambda x: tokens(x)[:, 1:].flatten(1),
    }


def probed(
    reading: dict[str, Callable[[Tensor], Tensor]], labelled: dict[str, Splits], seed: int
) -> dict[tuple[str, float], float]:
    """Test accuracy for each factor and share of the labels: {(factor, fraction): accuracy}. Of
    several readings the one that is best on validation is taken."""
    found = {}
    for factor, splits in labelled.items():
        read = [[features(f, part) for part in splits] for f in reading.values()]
        for fraction in FRACTIONS:
            probes = [
                linear_probe(label_subset(train, fraction, seed), validation, test)
                for train, validation, test in read
            ]
            best = max(probes, key=lambda probe: probe.validation_accuracy)
            found[factor, fraction] = best.test_accuracy
    return found


def labelled_images(setting: Setting, n: tuple[int, int, int]) -> dict[str, Splits]:
    """Painted shapes with each of their FACTORS as the label; n images in the three parts."""
    return {
        factor: shapes(
            0,
            n_train=n[0],
            n_validation=n[1],
            n_test=n[2],
            size=setting.image_size,
            label=factor,
            max_turn=MAX_TURN,
            device=setting.device,
        )
        for factor in FACTORS
    }


def run_job(
    row: str, seed: int, setting: Setting, unlabelled: int, n: tuple[int, int, int]
) -> dict[tuple[str, float], float]:
    """One row of the comparison for one seed: {(factor, fraction of the labels): accuracy}.

    Args:
        row: "pixels", "from scratch", or one of METHODS.
        unlabelled: images to pre-train on.
        n: labelled images for training, validation, test.
    """
    labelled = labelled_images(setting, n)
    if row == "pixels":
        return probed({"pixels": lambda x: x.flatten(1)}, labelled, seed)
    if row == "from scratch":
        found = {}
        for factor, (train, _, test) in labelled.items():
            for fraction in FRACTIONS:
                model = supervised(label_subset(train, fraction, seed), setting, seed)
                found[factor, fraction] = accuracy(model, test)
        return found
    pool = shapes(  # other pictures than the labelled ones: another seed
        100 + seed,
        n_train=unlabelled,
        n_validation=1,
        n_test=1,
        size=setting.image_size,
        max_turn=MAX_TURN,
        device=setting.device,
    )
    encoder = pretrained(row, pool.train.x, setting, seed)
    return probed(readings(encoder), labelled, seed)


def compare(
    setting: Setting,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    rows: Sequence[str] = ROWS,
    unlabelled: int = 20_000,
    n: tuple[int, int, int] = (4000, 1000, 2000),
    workers: int = 4,
) -> dict[str, dict[tuple[str, float], list[float]]]:
    """All rows for all seeds: {row: {(factor, fraction): accuracies, one a seed}}.

    A small network does not fill a GPU: ``workers`` processes share it.
    """
    jobs = [(row, seed) for row in rows for seed in seeds]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        futures = [pool.submit(run_job, *job, setting, unlabelled, n) for job in jobs]
        results = [future.result() for future in futures]
    table: dict[str, dict[tuple[str, float], list[float]]] = {row: {} for row in rows}
    for (row, _), result in zip(jobs, results, strict=True):
        for key, value in result.items():
            table[row].setdefault(key, []).append(value)
    return table
