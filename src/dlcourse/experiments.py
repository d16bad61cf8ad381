"""Small experiments over several seeds at once: the harness that chapters share.

A result over one seed is an anecdote. Here ``S`` networks that differ only in their seed (start
and order of the batches) train side by side: their weights are stacked on a leading dimension, and
one batched matrix product does the work of ``S`` small ones. No network sees another: the summed
loss has a block-diagonal gradient, so an optimizer that works element by element (SGD, Adam, Lion,
Schedule-Free, …) treats each as if it were alone. ``tests/test_experiments.py`` proves it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.datasets import Split


class MLPs(nn.Module):
    """``S`` independent multilayer perceptrons with ReLU, one for each seed.

    Args:
        sizes: widths of the layers, inputs first, classes last; at least two.
        seeds: one for each network.

    Shapes: ``(S, B, sizes[0]) -> (S, B, sizes[-1])``.

    Weights start uniform in ±√(6 / fan_in) (He et al. 2015, for ReLU), biases at zero.
    """

    def __init__(self, sizes: Sequence[int], seeds: Sequence[int]) -> None:
        super().__init__()
        if len(sizes) < 2 or not seeds:
            raise ValueError(f"need two sizes or more and a seed, got {sizes} and {seeds}")
        self.seeds = tuple(seeds)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = math.sqrt(6 / fan_in)  # He et al. (2015), for ReLU

            def uniform(*shape: int, bound: float = bound) -> nn.Parameter:
                drawn = [torch.rand(shape, generator=g) * 2 * bound - bound for g in generators]
                return nn.Parameter(torch.stack(drawn))

            self.weights.append(uniform(fan_in, fan_out))  # (S, fan_in, fan_out)
            self.biases.append(nn.Parameter(torch.zeros(len(seeds), 1, fan_out)))

    def forward(self, x: Tensor) -> Tensor:
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x if layer == 0 else x.relu(), weight)
        return x


def losses(model: MLPs, split: Split) -> Tensor:
    """Mean cross-entropy of each network on a whole split: ``(S,)``, in nats."""
    x = split.x.flatten(1).expand(len(model.seeds), -1, -1)
    with torch.no_grad():
        return cross_entropy(model(x), split.y.expand(len(model.seeds), -1))


def accuracies(model: MLPs, split: Split) -> Tensor:
    """Share of examples that each network classifies rightly: ``(S,)``."""
    x = split.x.flatten(1).expand(len(model.seeds), -1, -1)
    with torch.no_grad():
        return (model(x).argmax(-1) == split.y).double().mean(-1)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each network, averaged over its batch: ``(S, B, C), (S, B) -> (S,)``."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(
        y.shape
    ).mean(1)


class Point(NamedTuple):
    """A measurement in the middle of training: the number of steps taken, and the value."""

    step: int
    value: Any


def train(
    model: MLPs,
    optimizer: torch.optim.Optimizer,
    data: Split,
    *,
    steps: int,
    batch_size: int = 64,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    measure: Callable[[], Any] | None = None,
    measure_at: Iterable[int] = (),
    start: int = 0,
) -> list[Point]:
    """Train every network of ``model`` for ``steps`` steps, on batches of its own seed's order.

    An optimizer with ``train()`` and ``eval()`` (Schedule-Free) is put in train mode for the steps
    and in eval mode for each measurement and at the end.

    Args:
        model: the networks.
        optimizer: of ``model.parameters()``.
        data: ``x`` with any shape after the first dimension (it is flattened), ``y`` int64.
        steps: number of optimizer steps, at least 1; those before ``start`` are counted.
        batch_size: examples a step for each network, drawn without replacement.
        scheduler: stepped after each optimizer step.
        measure: called with no argument after each step in ``measure_at``.
        measure_at: numbers of steps, each in ``start + 1 … steps``.
        start: steps that a run which is continued has taken already: their batches are passed
            over. Model, optimizer and schedule must be restored by the caller.

    Returns:
        One ``Point`` for each entry of ``measure_at``, in order of the steps.

    Raises:
        ValueError: a count is out of range.
    """
    measure_at = set(measure_at)
    if steps < 1 or not 1 <= batch_size <= len(data.y):
        raise ValueError(
            f"need steps >= 1 and 1 <= batch_size <= {len(data.y)}, got {steps} and {batch_size}"
        )
    if not 0 <= start < steps:
        raise ValueError(f"start counts steps taken already, from 0 to {steps - 1}: got {start}")
    if any(not start < step <= steps for step in measure_at) or (measure_at and measure is None):
        raise ValueError("measure_at needs a measure, and steps after `start`, up to `steps`")

    to_train, to_eval = (getattr(optimizer, mode, lambda: None) for mode in ("train", "eval"))
    orders = (batches_of_indices(len(data.y), batch_size, seed) for seed in model.seeds)
    batches = zip(*orders, strict=True)
    x, y = data.x.flatten(1), data.y
    points = []
    to_train()
    for step, indices in enumerate(itertools.islice(batches, start, steps), start + 1):
        batch = torch.stack(indices)  # (S, B)
        optimizer.zero_grad()
        cross_entropy(model(x[batch]), y[batch]).sum().backward()  # a sum: no network sees another
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if step in measure_at:
            to_eval()
            points.append(Point(step, measure()))
            to_train()
    to_eval()
    return points


def batches_of_indices(n: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Endless batches of indices, each ``(batch_size,)`` of 0 … n − 1; each pass over the data in a
    new order, the ragged end dropped."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n, generator=generator).split(batch_size)[: n // batch_size]
