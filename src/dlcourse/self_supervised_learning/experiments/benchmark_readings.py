"""The benchmark's pictures, and how it reads a frozen encoder: neighbours and a logistic probe.

Chapter: ``120_self_supervised_learning/0_overview`` (recorded cells).

A picture has three labels (shape, hue, texture). Hundreds of readings must fit into a minute, so
what can be computed once is: the features of all pictures, and one L-BFGS for every factor and
decay at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcourse.datasets import HUES, SHAPES, TEXTURES, Split, render_shapes, shape_factors
from dlcourse.self_supervised_learning.evaluation.logistic_regression import (
    logistic_minimum,
    principal_axes,
    standard,
)
from dlcourse.self_supervised_learning.evaluation.nearest_neighbours import knn_accuracy
from dlcourse.self_supervised_learning.experiments.benchmark_methods import Contest
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = [
    "CLASSES",
    "Pictures",
    "effective_rank",
    "encode",
    "labelled_parts",
    "logistic_accuracies",
    "neighbours",
    "paint",
    "pooled",
]

CLASSES = {"shape": len(SHAPES), "hue": len(HUES), "texture": len(TEXTURES)}


class Pictures(NamedTuple):
    """Images (N, C, H, W), or their features (N, D), and their labels (N,) by factor."""

    x: Tensor
    labels: dict[str, Tensor]

    def rows(self, index: Tensor) -> Pictures:
        return Pictures(self.x[index], {name: y[index] for name, y in self.labels.items()})


def paint(n: int, size: int, seed: int, device: torch.device) -> Pictures:
    """``n`` painted pictures of the seed, the same on every device but for rounding."""
    factors = shape_factors(n, torch.Generator().manual_seed(seed))
    moved = type(factors)(*(value.to(device) for value in factors))
    x = torch.empty(n, 3, size, size, device=device)
    for start in range(0, n, 4096):  # the renderer needs some 40 times the memory of its result
        part = slice(start, start + 4096)
        x[part] = render_shapes(type(factors)(*(value[part] for value in moved)), size)
    return Pictures(x, {name: getattr(moved, name) for name in CLASSES})


def labelled_parts(
    train: Pictures, validation: Pictures, share: float, contest: Contest, seed: int
) -> tuple[Pictures, Pictures]:
    """The labelled pictures of a seed: a share to fit, and as many to choose on.

    The pictures of a smaller share are among those of a larger one.
    """
    n = contest.labels_of(share)
    generator = torch.Generator().manual_seed(1000 + seed)
    parts = []
    for whole in (train, validation):
        index = torch.randperm(len(whole.x), generator=generator)[:n]
        parts.append(whole.rows(index.to(whole.x.device)))
    return parts[0], parts[1]


@torch.no_grad()
def encode(encoder: VisionTransformer, pooling: str, pictures: Pictures) -> Pictures:
    """The features of all pictures, float32: class token, or mean of the patch tokens."""
    rows = [pooled(encoder, pooling, x).float() for x in pictures.x.split(1000)]
    return Pictures(torch.cat(rows), pictures.labels)


def pooled(encoder: VisionTransformer, pooling: str, images: Tensor) -> Tensor:
    """(B, C, H, W) → (B, D)."""
    tokens = encoder.forward_features(images)  # (B, 1 + N, D)
    return tokens[:, 0] if pooling == "class" else tokens[:, 1:].mean(1)


def effective_rank(features: Tensor) -> float:
    """In how many directions features (N, D) vary: exp of the entropy of their variances' shares.

    D where all directions vary alike, 1 where all features lie on a line: what is called
    dimensional collapse shows here.
    """
    x = features.double()
    x = x - x.mean(0)
    variance = torch.linalg.eigvalsh(x.T @ x if x.shape[1] <= len(x) else x @ x.T).clamp(min=0)
    share = variance / variance.sum()
    return torch.special.entr(share).sum().exp().item()


def neighbours(train: Pictures, test: Pictures) -> dict[str, float]:
    """k-NN accuracy of each factor; k = 20, and 5 where there are 200 labels or fewer."""
    k = min(len(train.x), 5 if len(train.x) <= 200 else 20)
    return {
        name: knn_accuracy(Split(train.x, train.labels[name]), Split(test.x, y), k=k)
        for name, y in test.labels.items()
    }


@torch.no_grad()
def logistic_accuracies(
    train: Pictures,
    validation: Pictures,
    test: Pictures,
    decays: Sequence[float],
    max_steps: int = 200,
) -> dict[str, float]:
    """Test accuracy of a logistic probe of each factor, its decay chosen on validation.

    What ``logistic_probe`` minimises, for all factors and decays in one L-BFGS.
    """
    mean, scale = standard(train.x)
    z = (train.x.double() - mean) / scale
    axes, variance = principal_axes(z)  # (D, R), (R,)
    names, widths = list(CLASSES), list(CLASSES.values())
    targets = [F.one_hot(train.labels[name], CLASSES[name]).double() for name in names]
    # One picture more of each class, so that none begins at −∞.
    biases = ((torch.cat(targets, 1).sum(0) + 1) / len(z)).log().expand(len(decays), -1)
    decays = sorted(decays)
    zeros = z.new_zeros(axes.shape[1], len(decays), sum(widths))
    w, b = logistic_minimum(
        z @ axes, variance, targets, decays, (zeros, biases),
        max_steps=max_steps, tolerance=1e-5,
    )  # fmt: skip
    weight = torch.tensordot(axes / scale[:, None], w, 1)  # (D, L, C), for features as they are
    bias = b - torch.tensordot(mean, weight, 1)

    def right(pictures: Pictures) -> list[Tensor]:
        logits = torch.tensordot(pictures.x.double(), weight, 1) + bias
        parts = zip(names, logits.split(widths, 2), strict=True)
        return [
            (part.argmax(2) == pictures.labels[name][:, None]).double().mean(0)
            for name, part in parts
        ]  # a (L,) for each factor

    chosen = [len(decays) - 1 - int(r.flip(0).argmax()) for r in right(validation)]  # the largest
    tested = right(test)
    return {name: tested[i][chosen[i]].item() for i, name in enumerate(names)}
