"""Fine-tuning of the benchmark: all runs of one encoder side by side, as one batched network.

Chapter: ``120_self_supervised_learning/0_overview`` (recorded cells).

One start is fine-tuned with each number of labels, each kind of views and each learning rate.
These are small trainings, whose steps would leave a GPU waiting for the next one to be launched.
So their weights are stacked, and ``torch.func.vmap`` turns each product of one network into one
batched product of all. No run sees another: its gradient, its clipping and its AdamW are its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from dlcourse.self_supervised_learning.experiments.benchmark_methods import Contest, views
from dlcourse.self_supervised_learning.experiments.benchmark_readings import (
    CLASSES,
    Pictures,
    pooled,
)
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = ["Choice", "FineTuned", "ManyReadouts", "Readout", "choose", "fine_tune_all"]


class Choice(NamedTuple):
    """One training on labels: which views, which peak rate, how many steps."""

    views: str
    rate: float
    steps: int


class FineTuned(NamedTuple):
    """Accuracies of one training, by factor: on validation, to choose by, and on test."""

    validation: dict[str, float]
    test: dict[str, float]


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


class ManyReadouts:
    """``len(rates)`` copies of a network, trained side by side, each with a rate of its own.

    A step is that of ``pretrain``: AdamW with decay 0.05 on what it decays there, betas 0.9 and
    0.95, gradients clipped to norm 1, a warm-up of a tenth of the steps and a cosine to zero.

    ``dtype`` is what a pass computes in, by default the weights' own; weights and AdamW's state
    stay as they are. (Autocast does not reach the products under ``vmap``.)
    """

    def __init__(
        self,
        network: Readout,
        rates: Sequence[float],
        steps: int,
        dtype: torch.dtype | None = None,
        compiled: bool = False,
    ) -> None:
        self.forward = torch.compile(_forward, dynamic=False) if compiled else _forward
        self.network, self.steps, self.taken, self.dtype = network, steps, 0, dtype
        named = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.shapes = {name: p.shape for name, p in named.items()}
        self.others = {n: b for n, b in network.named_buffers()}
        self.others |= {n: p.detach() for n, p in network.named_parameters() if n not in named}
        one = torch.cat([p.detach().flatten() for p in named.values()])  # (P,)
        self.weights = one.repeat(len(rates), 1).requires_grad_()  # (R, P)
        self.rates = torch.tensor(rates, device=one.device)[:, None]  # (R, 1)
        decayed = [torch.full((p.numel(),), float(p.squeeze().dim() >= 2)) for p in named.values()]
        self.decay = 0.05 * torch.cat(decayed).to(one.device)  # (P,)
        self.mean, self.square = (torch.zeros_like(self.weights) for _ in range(2))

    def __call__(self, images: Tensor) -> Tensor:
        """(R, B, C, H, W), a batch for each run → (R, B, 18)."""
        return self._call(images, 0)

    def all_alike(self, images: Tensor) -> Tensor:
        """(B, C, H, W), the same batch for every run → (R, B, 18)."""
        return self._call(images, None)

    def _call(self, images: Tensor, dim: int | None) -> Tensor:
        dtype = self.dtype or self.weights.dtype
        others = {name: value.to(dtype) for name, value in self.others.items()}
        parts = self.weights.to(dtype).split([math.prod(shape) for shape in self.shapes.values()], 1)
        stacked = {
            name: part.unflatten(1, shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        run = self.forward if dim == 0 else _forward  # what is only read is not worth compiling
        return run(self.network, stacked, others, images.to(dtype), dim)

    @torch.no_grad()
    def update(self, loss: Tensor) -> None:
        """One step down the sum of all runs' losses, a scalar: no loss depends on another's run."""
        (g,) = torch.autograd.grad(loss, self.weights)
        g *= (1 / (g.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1)
        warm = max(1, round(0.1 * self.steps))
        step, self.taken = self.taken, self.taken + 1
        if step < warm:
            factor = (step + 1) / warm
        else:
            factor = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))
        self.mean.lerp_(g, 0.1)
        self.square.lerp_(g.square_(), 0.05)
        root = (self.square / (1 - 0.95**self.taken)).sqrt_().add_(1e-8)
        move = (self.mean / (1 - 0.9**self.taken)).div_(root)
        self.weights -= factor * self.rates * (move + self.decay * self.weights)


def _forward(
    network: Readout,
    weights: dict[str, Tensor],
    others: dict[str, Tensor],
    images: Tensor,
    dim: int | None,
) -> Tensor:
    """The network once for each of the stacked weights."""

    def one(own: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(network, (own, others), (x,))

    # Fused attention under vmap has wrong gradients on a GPU (seen: 67 times the right one's norm).
    with sdpa_kernel(SDPBackend.MATH):
        return vmap(one, in_dims=(0, dim))(weights, images)


def shuffled(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of indices below n: one pass after the other, each in a new order.

    A batch may hold the end of one pass and the beginning of the next, so every batch is full.
    """
    rest = torch.empty(0, dtype=torch.long)
    while True:
        while len(rest) < batch_size:
            rest = torch.cat([rest, torch.randperm(n, generator=generator)])
        yield rest[:batch_size]
        rest = rest[batch_size:]


def fine_tune_all(
    start: VisionTransformer,
    pooling: str,
    train: Pictures,
    validation: Pictures,
    test: Pictures,
    contest: Contest,
    steps: int,
    seed: int,
) -> dict[float, dict[Choice, FineTuned]]:
    """Accuracies of all runs: share of the labels → choice → accuracies.

    ``train`` and ``validation`` hold the pictures of the largest share; a smaller one has the
    first of them. ``test`` is looked at with every run, since each may be some factor's choice.
    """
    generator = torch.Generator(contest.device).manual_seed(seed)
    network = Readout(start, pooling)
    many = ManyReadouts(network, _rates(contest), steps, contest.dtype, contest.compiled)
    for _, loss in zip(range(steps), _losses(many, train, contest, generator, seed), strict=False):
        many.update(loss)
    if not many.weights.isfinite().all():
        raise FloatingPointError("fine-tuning has left finite numbers: lower the rates")
    runs = [
        (share, Choice(view, rate, steps))
        for share in contest.shares
        for view in contest.label_views
        for rate in contest.rates
    ]
    on_validation, on_test = (_right(many, part, contest) for part in (validation, test))
    found: dict[float, dict[Choice, FineTuned]] = {}
    for i, (share, choice) in enumerate(runs):
        n = contest.labels_of(share)
        found.setdefault(share, {})[choice] = FineTuned(
            {f: r[i, :n].mean().item() for f, r in on_validation.items()},
            {f: r[i].mean().item() for f, r in on_test.items()},
        )
    return found


def choose(tried: Mapping[Choice, FineTuned]) -> dict[str, Choice]:
    """For each factor the choice that is best on validation; of equal ones the first."""
    return {name: max(tried, key=lambda c: tried[c].validation[name]) for name in CLASSES}


def _rates(contest: Contest) -> list[float]:
    """Of the runs, in their order: shares, then views, then rates."""
    return [*contest.rates] * (len(contest.shares) * len(contest.label_views))


def _losses(
    many: ManyReadouts,
    train: Pictures,
    contest: Contest,
    generator: torch.Generator,
    seed: int,
) -> Iterator[Tensor]:
    """The summed loss of all runs, batch after batch.

    The runs of one share see the same pictures, those of one kind of views the same views.
    """
    order = torch.Generator().manual_seed(seed)
    batches = [shuffled(contest.labels_of(s), contest.label_batch, order) for s in contest.shares]
    draws = [views(name, contest.size) for name in contest.label_views]
    s, v, k = len(contest.shares), len(draws), len(contest.rates)
    while True:
        index = torch.cat([next(b) for b in batches]).to(contest.device)  # (S · B,)
        batch = train.rows(index)
        drawn = [draw(batch.x, generator).unflatten(0, (s, -1)) for draw in draws]
        images = torch.stack(drawn, 1)  # (S, V, B, C, H, W)
        images = images[:, :, None].expand(-1, -1, k, *images.shape[2:]).flatten(0, 2)  # (R, B, …)
        loss = 0
        parts = many(images).float().split(list(CLASSES.values()), 2)
        for part, (name, classes) in zip(parts, CLASSES.items(), strict=True):
            labels = batch.labels[name].unflatten(0, (s, 1, -1)).expand(-1, v * k, -1)
            error = F.cross_entropy(part.reshape(-1, classes), labels.flatten(), reduction="sum")
            loss = loss + error / contest.label_batch
        yield loss


@torch.no_grad()
def _right(many: ManyReadouts, pictures: Pictures, contest: Contest) -> dict[str, Tensor]:
    """By factor, where each run is right: (R, N), 0 or 1."""
    logits = torch.cat([many.all_alike(x).float() for x in pictures.x.split(500)], 1)
    parts = zip(CLASSES, logits.split(list(CLASSES.values()), 2), strict=True)
    return {name: (part.argmax(2) == pictures.labels[name]).double() for name, part in parts}

