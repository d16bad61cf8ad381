"""Mask ratio and block size: many SimMIMs trained as one, probed and fine-tuned.

Chapter: ``120_self_supervised_learning/1c_simmim`` (a recorded cell). Runs on a CPU too, at tiny
sizes, which is how it is tested.

Many small models are slow on a GPU, which waits for the host. So the weights of all are stacked,
and ``torch.func.vmap`` turns each layer into one batched operation. Equal pictures go to all
models, each of which has masks of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dlcourse.datasets import Split, Splits, shapes
from dlcourse.self_supervised_learning.augmentations.batch_views import BatchViews
from dlcourse.self_supervised_learning.evaluation.frozen_features import label_subset
from dlcourse.self_supervised_learning.evaluation.probes import logistic_probe
from dlcourse.self_supervised_learning.experiments.masked_autoencoder_runs import (
    as_pictures,
    standardised,
)
from dlcourse.self_supervised_learning.patches import unpatchify
from dlcourse.self_supervised_learning.simmim.masks import block_mask, pixel_mask
from dlcourse.self_supervised_learning.simmim.model import SimMIM, normalize_patches
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = ["GridSizes", "Kind", "Painted", "ratio_and_block"]


class Kind(NamedTuple):
    """A way to hide: share of the blocks, their side in pixels, and the target."""

    ratio: float
    block: int
    norm_target: bool

    def __str__(self) -> str:
        target = "normalised" if self.norm_target else "pixels"
        return f"{self.ratio:g}, {self.block} px, {target}"


KINDS = (
    *(Kind(ratio, block, False) for block in (4, 8) for ratio in (0.4, 0.6, 0.8)),
    Kind(0.4, 16, False),
    Kind(0.6, 16, False),
    Kind(0.6, 4, True),
    Kind(0.6, 8, True),
)
UNTRAINED = "untrained"


@dataclass(frozen=True)
class GridSizes:
    """The defaults are those of the record."""

    size: int = 32
    patch: int = 4
    width: int = 128
    depth: int = 4
    heads: int = 4
    unlabelled: int = 20_000
    labelled: int = 4000  # and as many again to choose by
    tested: int = 2000
    batch: int = 64
    steps: int = 1000
    label_steps: int = 300
    rates: tuple[float, ...] = (5e-4, 2e-3)  # of training on labels
    shares: tuple[float, ...] = (0.01, 0.1)  # of labels to train on


class Painted(NamedTuple):
    """For looking: pictures, and for each kind the masked and the painted ones, in [0, 1]."""

    pictures: Tensor
    rows: dict[str, tuple[Tensor, Tensor]]


class _Painter(nn.Module):
    """SimMIM without its loss."""

    def __init__(self, sizes: GridSizes, seed: int) -> None:
        super().__init__()
        encoder = VisionTransformer(
            sizes.size, sizes.patch, 3, embed_dim=sizes.width, depth=sizes.depth,
            num_heads=sizes.heads, generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        self.encoder, self.head = encoder, SimMIM(encoder, generator=generator).head
        self.patch, self.size = sizes.patch, sizes.size

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        tokens = self.encoder.forward_features(images, mask)[:, 1:]
        return unpatchify(self.head(tokens), self.patch, (self.size, self.size))


class _Classifier(nn.Module):
    """The mean of the patches, and a linear layer that starts at zero."""

    def __init__(self, encoder: VisionTransformer, classes: int) -> None:
        super().__init__()
        device = encoder.patch_embedding.weight.device
        self.encoder, self.head = encoder, nn.Linear(encoder.embed_dim, classes, device=device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder.forward_features(images)[:, 1:].mean(1))


def _stack(models: Sequence[nn.Module]) -> tuple[dict[str, Tensor], Callable[..., Tensor]]:
    """The weights of all models as one dictionary, and a function that runs them together.

    ``shared`` says of each input whether all models get the same one.
    """
    weights, buffers = torch.func.stack_module_state(list(models))
    skeleton = copy.deepcopy(models[0]).to("meta")

    def one(weights: dict[str, Tensor], buffers: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        return torch.func.functional_call(skeleton, (weights, buffers), inputs)

    def run(*inputs: Tensor, shared: Sequence[bool]) -> Tensor:
        together = torch.func.vmap(one, in_dims=(0, 0, *(None if s else 0 for s in shared)))
        # No fused attention has a rule for vmap together with a gradient.
        with sdpa_kernel(SDPBackend.MATH):
            return together(weights, buffers, *inputs)

    return weights, run


def _optimise(
    weights: dict[str, Tensor], loss: Callable[[], Tensor], steps: int, lr: float
) -> None:
    """AdamW with a warm-up and a cosine, for all models at once."""
    fused = next(iter(weights.values())).is_cuda
    optimizer = torch.optim.AdamW(weights.values(), lr=lr, betas=(0.9, 0.95), fused=fused)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=steps, pct_start=0.1, cycle_momentum=False
    )
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def ratio_and_block(
    device: torch.device,
    sizes: GridSizes = GridSizes(),
    *,
    kinds: Sequence[Kind] = KINDS,
    seeds: Sequence[int] = (0, 1, 2),
) -> tuple[dict[str, dict[str, dict[str, list[float]]]], Painted]:
    """Train a SimMIM of each kind and seed, read each, and show what some of them paint.

    Returns kind → column → "validation" or "test" → one accuracy a seed; the last kind is
    "untrained". Columns are "probe shape", "probe hue" and "probe texture" (logistic, on the mean of
    the patches, 10 % of the labels) and "trained on 1 %", "trained on 10 %" (of the labels of the
    shape, encoder and head, same views, steps and rates for all). Whatever is chosen is chosen on
    validation.
    """
    runs = [(kind, seed) for kind in kinds for seed in seeds]
    counts = {"n_train": sizes.unlabelled, "n_validation": 1, "n_test": 1}
    pool = shapes(9, size=sizes.size, max_turn=0.15, device=device, **counts).train.x
    counts = {
        "n_train": sizes.labelled, "n_validation": sizes.labelled, "n_test": sizes.tested,
    }  # fmt: skip
    known = {
        label: shapes(0, size=sizes.size, label=label, max_turn=0.15, device=device, **counts)
        for label in ("shape", "hue", "texture")
    }
    painters = _pretrain([_Painter(sizes, seed).to(device) for _, seed in runs], runs, pool, sizes)
    encoders = [p.encoder for p in painters]
    encoders += [_Painter(sizes, seed).to(device).encoder for seed in seeds]
    names = [str(kind) for kind, _ in runs] + [UNTRAINED] * len(seeds)

    table: dict[str, dict[str, dict[str, list[float]]]] = {}

    def add(name: str, column: str, validation: float, test: float) -> None:
        cell = table.setdefault(name, {}).setdefault(column, {"validation": [], "test": []})
        cell["validation"].append(validation)
        cell["test"].append(test)

    for name, encoder in zip(names, encoders, strict=True):
        for column, accuracies in _probed(encoder, known).items():
            add(name, column, *accuracies)
    for share in sizes.shares:
        found = _trained_on_labels(encoders, known["shape"], share, sizes)
        for name, validation, test in zip(names, *found, strict=True):
            add(name, f"trained on {100 * share:g} %", validation, test)

    few = known["shape"].validation.x[:6]
    generator = torch.Generator(device).manual_seed(0)
    rows = {}
    for (kind, seed), painter in zip(runs, painters, strict=True):
        if seed == seeds[0] and not kind.norm_target:
            mask = _masks([kind], len(few), 1, sizes, generator)[0]
            hidden = pixel_mask(mask, sizes.patch, (sizes.size, sizes.size)).bool()
            with torch.no_grad():
                painted = as_pictures(painter(standardised(few), mask))
            masked = torch.where(hidden, torch.tensor(0.75, device=device), few)
            rows[str(kind)] = masked.cpu(), torch.where(hidden, painted, few).cpu()
    return table, Painted(few.cpu(), rows)


def _masks(
    kinds: Sequence[Kind], batch: int, seeds: int, sizes: GridSizes, generator: torch.Generator
) -> Tensor:
    """(models, B, N): the kinds one after another, each ``seeds`` times."""
    side = sizes.size // sizes.patch
    masks = [
        block_mask(
            seeds * batch, (side, side), kind.block // sizes.patch, kind.ratio, generator,
            device=generator.device,
        ).unflatten(0, (seeds, batch))
        for kind in kinds
    ]  # fmt: skip
    return torch.cat(masks)


def _pretrain(
    painters: list[_Painter], runs: Sequence[tuple[Kind, int]], pool: Tensor, sizes: GridSizes
) -> list[_Painter]:
    device = pool.device
    weights, predict = _stack(painters)
    generator = torch.Generator(device).manual_seed(0)
    kinds = list(dict.fromkeys(kind for kind, _ in runs))
    raw = torch.tensor([not kind.norm_target for kind, _ in runs], device=device)
    size = (sizes.size, sizes.size)

    def loss() -> Tensor:
        chosen = torch.randint(len(pool), (sizes.batch,), generator=generator, device=device)
        images = standardised(pool[chosen])
        masks = _masks(kinds, sizes.batch, len(runs) // len(kinds), sizes, generator)
        prediction = predict(images, masks, shared=(True, False))  # (models, B, 3, H, W)
        normalised = normalize_patches(images, sizes.patch)
        target = torch.where(raw.view(-1, 1, 1, 1, 1), images, normalised)
        hidden = pixel_mask(masks.flatten(0, 1), sizes.patch, size).unflatten(0, masks.shape[:2])
        error = (prediction - target).abs() * hidden
        error = error.sum((1, 2, 3, 4)) / (3 * hidden.sum((1, 2, 3, 4)))  # (models,)
        return error.sum()  # so each model gets its own gradient

    _optimise(weights, loss, sizes.steps, 1e-3)
    with torch.no_grad():  # the trained weights, back into modules
        for i, painter in enumerate(painters):
            for name, parameter in painter.named_parameters():
                parameter.copy_(weights[name][i])
    return painters


@torch.no_grad()
def _probed(
    encoder: VisionTransformer, known: dict[str, Splits]
) -> dict[str, tuple[float, float]]:
    """Column → accuracy on validation and on test, with 10 % of the labels."""
    features = [
        torch.cat(
            [
                encoder.forward_features(standardised(part))[:, 1:].mean(1)
                for part in split.x.split(1000)
            ]
        )
        for split in known["shape"]
    ]
    found = {}
    for label, splits in known.items():
        train, validation, test = (
            Split(x, split.y) for x, split in zip(features, splits, strict=True)
        )
        choose = label_subset(validation, 0.1, 0)
        probe = logistic_probe(label_subset(train, 0.1, 0), choose, test)
        found[f"probe {label}"] = probe.validation_accuracy, probe.test_accuracy
    return found


def _trained_on_labels(
    encoders: Sequence[VisionTransformer], splits: Splits, share: float, sizes: GridSizes
) -> tuple[list[float], list[float]]:
    """Accuracy of each encoder on validation and on test, at the rate that validation chose."""
    device = splits.train.x.device
    few, choose = (label_subset(s, share, 0) for s in (splits.train, splits.validation))
    classes = int(splits.train.y.max()) + 1
    view = BatchViews(sizes.size, scale=(0.25, 1.0), hue=0.5)
    best: list[Tensor] | None = None
    for lr in sizes.rates:
        weights, classify = _stack([_Classifier(copy.deepcopy(e), classes) for e in encoders])
        draw = torch.Generator(device).manual_seed(1)

        def loss(classify: Callable[..., Tensor] = classify, draw: Any = draw) -> Tensor:
            chosen = torch.randint(len(few.y), (sizes.batch,), generator=draw, device=device)
            images = standardised(view(few.x[chosen], draw))
            logits = classify(images, shared=(True,))  # (models, B, classes)
            y = few.y[chosen].expand(len(encoders), -1)
            return len(encoders) * F.cross_entropy(logits.flatten(0, 1), y.flatten())

        _optimise(weights, loss, sizes.label_steps, lr)
        with torch.no_grad():
            right = []
            for x, y in (choose, splits.test):
                votes = [
                    classify(standardised(part), shared=(True,)).argmax(-1) for part in x.split(250)
                ]
                right.append((torch.cat(votes, 1) == y).double().mean(1))
        if best is None:
            best = right
        better = right[0] > best[0]  # of each model, on validation
        best = [torch.where(better, new, old) for new, old in zip(right, best, strict=True)]
    return best[0].tolist(), best[1].tolist()
