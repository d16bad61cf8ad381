"""Schedules in training: runs that branch, warm-ups, and a contest over budgets.

Chapter: ``119_large_scale_training/3_schedules``.

All of it trains the same small networks on the same digits, several seeds side by side
(``dlcourse.experiments``).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from dlcourse.datasets import digits
from dlcourse.experiments import MLPs, losses, train
from dlcourse.large_scale_training.optimizers.schedule_free import AdamWScheduleFree
from dlcourse.large_scale_training.schedules.cosine import cosine_with_warmup
from dlcourse.large_scale_training.schedules.multiplier import MultiplierLR
from dlcourse.large_scale_training.schedules.one_cycle import one_cycle
from dlcourse.large_scale_training.schedules.wsd import warmup_stable_decay

__all__ = [
    "RIVALS",
    "SIZES",
    "WARMUP",
    "adamw",
    "choose",
    "compete",
    "dead_units",
    "decay_from",
    "digits_task",
    "stable",
    "stable_run",
    "step_sizes",
    "tune",
    "warmed_up",
]

SIZES = (196, 64, 64, 10)
WARMUP = 20  # steps, for every rival that has a warm-up of its own choice
Measure = Callable[[MLPs], Any]


def digits_task():
    """14 × 14 pixels: digits moved by up to 3 pixels, in parts for training, validation, test."""
    return digits(seed=0, max_shift=3, copies=20)


def adamw(model: MLPs, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=lr, betas=betas, weight_decay=0.0, fused=True)


def stable(step: int, warmup: int) -> float:
    """The simplest schedule: a linear warm-up, and then 1 for ever."""
    return min(1.0, step / warmup) if warmup else 1.0


# ------------------------------------------------------------------------------ runs that branch


def stable_run(
    data: Any, lr: float, seeds: Sequence[int], steps: int, measure: Measure, at: Iterable[int]
) -> dict[int, tuple[Any, Any]]:
    """Train at a constant rate: {step: (measured, checkpoint)}."""
    model = MLPs(SIZES, seeds)
    optimizer = adamw(model, lr)
    schedule = MultiplierLR(optimizer, stable, warmup=WARMUP)

    def look() -> tuple[Any, Any]:
        return measure(model), copy.deepcopy((model.state_dict(), optimizer.state_dict()))

    points = train(
        model,
        optimizer,
        data.train,
        steps=steps,
        scheduler=schedule,
        measure=look,
        measure_at=at,
    )
    return {p.step: p.value for p in points}


def decay_from(
    data: Any,
    checkpoint: Any,
    lr: float,
    seeds: Sequence[int],
    start: int,
    steps: int,
    measure: Measure,
    at: Iterable[int],
) -> dict[int, Any]:
    """Leave a stable run at ``start`` and decay until ``steps``: {step: measured}."""
    model = MLPs(SIZES, seeds)
    optimizer = adamw(model, lr)
    share = (steps - start) / steps
    schedule = warmup_stable_decay(optimizer, WARMUP, steps, decay_fraction=share)
    model.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    schedule.move_to(start)
    points = train(
        model,
        optimizer,
        data.train,
        steps=steps,
        start=start,
        scheduler=schedule,
        measure=lambda: measure(model),
        measure_at=at,
    )
    return {p.step: p.value for p in points}


# --------------------------------------------------------------------------------------- warm-up


def dead_units(model: MLPs, data: Any) -> Tensor:
    """Share of the first layer that no validation image activates: (S,)."""
    x = data.validation.x.flatten(1)
    with torch.no_grad():
        hidden = x @ model.weights[0] + model.biases[0]  # (S, N, 64)
    return (hidden.amax(1) <= 0).double().mean(1)


def warmed_up(
    data: Any,
    make: Callable[[MLPs, float], Optimizer],
    lr: float,
    warmup: int,
    seeds: Sequence[int],
    measure_at: Iterable[int] = (300,),
) -> list[tuple[int, Tensor, Tensor]]:
    """A cosine over 300 steps: [(step, validation losses, dead units)]."""
    model = MLPs(SIZES, seeds)
    optimizer = make(model, lr)
    points = train(
        model,
        optimizer,
        data.train,
        steps=300,
        scheduler=cosine_with_warmup(optimizer, warmup, 300),
        measure=lambda: (losses(model, data.validation), dead_units(model, data)),
        measure_at=measure_at,
    )
    return [(p.step, *p.value) for p in points]


def step_sizes(data: Any, seeds: Sequence[int], lr: float = 0.001, steps: int = 100) -> list[float]:
    """Median over all weights of |step| / rate, for each step of AdamW at a constant rate."""
    model = MLPs(SIZES, seeds)

    def weights() -> Tensor:
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    points = train(
        model,
        adamw(model, lr),
        data.train,
        steps=steps,
        measure=weights,
        measure_at=range(1, steps + 1),
    )
    start = torch.cat([p.detach().flatten() for p in MLPs(SIZES, seeds).parameters()])
    path = [start, *(p.value for p in points)]
    return [(new - old).abs().median().item() / lr for old, new in itertools.pairwise(path)]


# ---------------------------------------------------------------------------------- the contest
# A rival trains with a rate and one number of its own, and measures its model at every budget.


def _trained(
    data: Any,
    optimizer: Optimizer,
    model: MLPs,
    steps: int,
    scheduler: Any,
    measure: Measure,
    at: Iterable[int],
) -> dict[int, Any]:
    points = train(
        model,
        optimizer,
        data.train,
        steps=steps,
        scheduler=scheduler,
        measure=lambda: measure(model),
        measure_at=at,
    )
    return {p.step: p.value for p in points}


def _constant(data, lr, own, seeds, budgets, measure):
    model = MLPs(SIZES, seeds)
    optimizer = adamw(model, lr)
    schedule = MultiplierLR(optimizer, stable, warmup=WARMUP)
    return _trained(data, optimizer, model, max(budgets), schedule, measure, budgets)


def _averaged(data, lr, own, seeds, budgets, measure):
    """The constant rate; the model is the mean of the weights over the last ``own`` of the steps.
    One run serves all budgets, whose windows must not overlap."""
    model = MLPs(SIZES, seeds)
    optimizer = adamw(model, lr)
    schedule = MultiplierLR(optimizer, stable, warmup=WARMUP)
    average, step = AveragedModel(model), itertools.count(1)
    first = {budget - round(own * budget) + 1 for budget in budgets}
    inside = {
        k for budget in budgets for k in range(budget - round(own * budget) + 1, budget + 1)
    }

    def update(*_: Any) -> None:
        k = next(step)
        if k in first:
            average.n_averaged.zero_()
        if k in inside:
            average.update_parameters(model)

    optimizer.register_step_post_hook(update)
    points = train(
        model,
        optimizer,
        data.train,
        steps=max(budgets),
        scheduler=schedule,
        measure=lambda: measure(average.module),
        measure_at=budgets,
    )
    return {p.step: p.value for p in points}


def _wsd(data, lr, own, seeds, budgets, measure):
    """One stable run, and a decay over the last ``own`` of each budget that branches off it."""
    starts = {budget: budget - round(own * budget) for budget in budgets}
    held = stable_run(
        data, lr, seeds, max(starts.values()), lambda model: None, set(starts.values())
    )
    return {
        budget: decay_from(
            data, held[start][1], lr, seeds, start, budget, measure, [budget]
        )[budget]
        for budget, start in starts.items()
    }  # fmt: skip


def _planned(schedule: Callable[[Optimizer, float, float, int], Any]):
    """A run of its own for every budget."""

    def run(data, lr, own, seeds, budgets, measure):
        found = {}
        for budget in budgets:
            model = MLPs(SIZES, seeds)
            optimizer = adamw(model, lr)
            planned = schedule(optimizer, lr, own, budget)
            found |= _trained(data, optimizer, model, budget, planned, measure, [budget])
        return found

    return run


def _schedule_free(data, lr, own, seeds, budgets, measure):
    model = MLPs(SIZES, seeds)
    optimizer = AdamWScheduleFree(
        model.parameters(), lr=lr, betas=(own, 0.999), warmup_steps=WARMUP
    )
    return _trained(data, optimizer, model, max(budgets), None, measure, budgets)


# name: (what its own number is, the values tried, the run). The constant rate has no number of its
# own; it gets as many trials, on a grid of rates that is twice as fine.
RIVALS: dict[str, tuple[str, tuple[float, ...], Callable[..., dict[int, Any]]]] = {
    "constant": ("–", (), _constant),
    "averaged": ("share averaged", (0.2, 0.5), _averaged),
    "cosine": (
        "floor",
        (0.0, 0.1),
        _planned(
            lambda o, lr, own, steps: cosine_with_warmup(o, WARMUP, steps, min_lr_ratio=own)
        ),
    ),
    "one cycle": (
        "share of the rise",
        (0.15, 0.3),
        _planned(lambda o, lr, own, steps: one_cycle(o, lr, steps, own)),
    ),
    "WSD": ("share of the decay", (0.2, 0.5), _wsd),
    "Schedule-Free": ("β₁", (0.9, 0.95), _schedule_free),
}

Trial = tuple[float, float, float]  # rate, own number, mean validation loss


def tune(
    data: Any, seeds: Sequence[int], budgets: Sequence[int], rates: Sequence[float]
) -> dict[str, dict[int, list[Trial]]]:
    """Validation loss of every rival, at each rate and number of its own, for each budget."""

    def validation(model: MLPs) -> float:
        return losses(model, data.validation).mean().item()

    table: dict[str, dict[int, list[Trial]]] = {}
    for name, (_, values, run) in RIVALS.items():
        finer = [rate * factor for rate in rates for factor in (1, 2**0.5)]
        pairs = list(itertools.product(rates, values)) or [(rate, 0.0) for rate in finer]
        table[name] = {budget: [] for budget in budgets}
        for lr, own in pairs:
            for budget, loss in run(data, lr, own, seeds, budgets, validation).items():
                table[name][budget].append((lr, own, loss))
    return table


def choose(table: dict[str, dict[int, list[Trial]]]) -> dict[str, dict[int, tuple[float, float]]]:
    """The rate and own number of the lowest validation loss, for each rival and budget."""
    return {
        name: {
            budget: min(trials, key=lambda trial: trial[2])[:2] for budget, trials in rows.items()
        }
        for name, rows in table.items()
    }


def compete(
    data: Any, chosen: dict[str, dict[int, tuple[float, float]]], seeds: Sequence[int]
) -> dict[str, dict[int, list[list[float]]]]:
    """Test and training loss of each seed under the chosen settings: {name: {budget: (2, S)}}."""

    def both(model: MLPs) -> list[list[float]]:
        return [losses(model, split).tolist() for split in (data.test, data.train)]

    found: dict[str, dict[int, list[list[float]]]] = {}
    for name, by_budget in chosen.items():
        found[name] = {}
        for setting in sorted(set(by_budget.values())):
            budgets = [budget for budget, chosen in by_budget.items() if chosen == setting]
            found[name] |= RIVALS[name][2](data, *setting, seeds, budgets, both)
    return found
