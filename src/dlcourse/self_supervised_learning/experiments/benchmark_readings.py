"""How the benchmark reads an encoder: neighbours, a logistic probe, and tuned fine-tuning.

Chapter: ``120_self_supervised_learning/0_overview`` (recorded cells).

A picture has three labels (shape, hue, texture). Hundreds of readings must fit into a minute, so
what can be computed once is: the features of all pictures, one L-BFGS for every factor and decay
at once, and one network with three heads, whose views, rate and steps are then chosen *for each
factor*, on validation.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.datasets import HUES, SHAPES, TEXTURES, Split, render_shapes, shape_factors
from dlcourse.self_supervised_learning.evaluation.nearest_neighbours import knn_accuracy
from dlcourse.self_supervised_learning.evaluation.probes import _principal_axes, _standard
from dlcourse.self_supervised_learning.experiments.benchmark_methods import (
    Contest,
    compile_blocks,
    views,
)
from dlcourse.self_supervised_learning.pretraining import pretrain
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = [
    "CLASSES",
    "Pictures",
    "Readout",
    "effective_rank",
    "encode",
    "fine_tuned",
    "labelled_parts",
    "logistic_accuracies",
    "neighbours",
    "paint",
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
    n = max(2, round(share * contest.labelled))
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
    variance = torch.linalg.svdvals(x - x.mean(0)).square()
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

    What ``logistic_probe`` minimises, for all factors and decays in one L-BFGS: the problems have
    no unknown in common, so the minimum of their sum is each one's minimum.
    """
    mean, scale = _standard(train.x)
    z = (train.x.double() - mean) / scale
    axes, variance = _principal_axes(z)  # (D, R), (R,)
    a = z @ axes  # (N, R)
    n, names = len(a), list(CLASSES)
    widths = [CLASSES[name] for name in names]
    one_hot = [F.one_hot(train.labels[name], CLASSES[name]).double() for name in names]
    wanted = torch.cat(one_hot, 1)[:, None]  # (N, 1, C), C classes of all factors
    decay = torch.tensor(sorted(decays), dtype=a.dtype, device=a.device)  # (L,)
    # Divided by the root of its curvature at 0, each unknown has the same scale (see the probe).
    curvature = variance[:, None] / (sum(widths) / len(widths)) + decay  # (R, L)
    unit = curvature.rsqrt()[..., None]  # (R, L, 1)
    v = a.new_zeros(1 + a.shape[1], len(decay), sum(widths))
    v[0] = ((wanted.sum(0) + 1) / n).log()  # biases; one more of each class, so none is −∞

    def loss() -> Tensor:
        w = unit * v[1:]  # (R, L, C)
        logits = torch.tensordot(a, w, 1) + v[0]  # (N, L, C)
        log_p = torch.cat([part.log_softmax(2) for part in logits.split(widths, 2)], 2)
        error = (log_p.exp() - wanted) / n
        slope = torch.tensordot(a.T, error, 1) + decay[:, None] * w
        v.grad = torch.cat([error.sum(0)[None], unit * slope])
        return -(log_p * wanted).sum() / n + (decay[:, None] * w.square()).sum() / 2

    torch.optim.LBFGS(
        [v], max_iter=max_steps, history_size=20, tolerance_grad=1e-5, tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    ).step(loss)  # fmt: skip

    weight = torch.tensordot(axes / scale[:, None], unit * v[1:], 1)  # (D, L, C)
    bias = v[0] - torch.tensordot(mean, weight, 1)

    def right(pictures: Pictures) -> list[Tensor]:
        logits = torch.tensordot(pictures.x.double(), weight, 1) + bias
        parts = zip(names, logits.split(widths, 2), strict=True)
        return [
            (part.argmax(2) == pictures.labels[name][:, None]).double().mean(0)
            for name, part in parts
        ]  # a (L,) for each factor

    chosen = [len(decay) - 1 - int(r.flip(0).argmax()) for r in right(validation)]  # the largest
    tested = right(test)
    return {name: tested[i][chosen[i]].item() for i, name in enumerate(names)}


class Readout(nn.Module):
    """An encoder and three linear heads, which start at zero: (B, C, H, W) → (B, 18)."""

    def __init__(self, encoder: VisionTransformer, pooling: str) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling
        device = encoder.patch_embedding.weight.device
        self.heads = nn.Linear(encoder.embed_dim, sum(CLASSES.values()), device=device)
        nn.init.zeros_(self.heads.weight)
        nn.init.zeros_(self.heads.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.heads(pooled(self.encoder, self.pooling, images))

    def loss(self, images: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """The sum of the three cross-entropies."""
        parts = self(images).float().split(list(CLASSES.values()), 1)
        return sum(
            F.cross_entropy(part, labels[name]) for name, part in zip(CLASSES, parts, strict=True)
        )

    @torch.no_grad()
    def accuracies(self, pictures: Pictures) -> dict[str, float]:
        logits = torch.cat([self(x) for x in pictures.x.split(1000)])
        parts = zip(CLASSES, logits.split(list(CLASSES.values()), 1), strict=True)
        return {
            name: (part.argmax(1) == pictures.labels[name]).double().mean().item()
            for name, part in parts
        }


class FineTuning(NamedTuple):
    """Test accuracy by factor, what was chosen for it (views, rate, steps), and all seconds."""

    accuracy: dict[str, float]
    chosen: dict[str, tuple[str, float, int]]
    seconds: float


def fine_tuned(
    start: Callable[[], VisionTransformer],
    pooling: str,
    train: Pictures,
    validation: Pictures,
    test: Pictures,
    contest: Contest,
    steps: Sequence[int],
    seed: int,
) -> FineTuning:
    """Train encoder and heads with each views, rate and number of steps; choose on validation.

    ``start`` makes the encoder anew. ``test`` is looked at with every training, since each may be
    some factor's choice; only what validation has chosen is returned.
    """
    begin = time.perf_counter()
    tried = {}
    for combination in itertools.product(contest.label_views, contest.rates, steps):
        network = train_readout(start(), pooling, train, contest, *combination, seed)
        tried[combination] = network.accuracies(validation), network.accuracies(test)
    chosen = {name: max(tried, key=lambda c: tried[c][0][name]) for name in CLASSES}
    accuracy = {name: tried[chosen[name]][1][name] for name in CLASSES}
    return FineTuning(accuracy, chosen, time.perf_counter() - begin)


def train_readout(
    encoder: VisionTransformer,
    pooling: str,
    train: Pictures,
    contest: Contest,
    view: str,
    rate: float,
    steps: int,
    seed: int,
) -> Readout:
    """One training on labels; the network is returned uncompiled, in eval mode."""
    network = Readout(encoder, pooling)
    if contest.compiled:
        compile_blocks(network)
    draw = views(view, contest.size)

    def loss(index: Tensor, g: torch.Generator) -> Tensor:
        batch = train.rows(index)
        images = draw(batch.x, g)
        with contest.autocast():
            return network.loss(images, batch.labels)

    pretrain(
        network, loss, len(train.x), steps=steps, batch_size=min(contest.label_batch, len(train.x)),
        lr=rate, max_grad_norm=1.0, seed=seed,
    )  # fmt: skip
    return copy.deepcopy(network).eval()
