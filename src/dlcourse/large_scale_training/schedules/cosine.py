"""Linear warm-up and a cosine: once down, or again and again with restarts.

Chapter: ``119_large_scale_training/3_schedules``.

Papers:
    Goyal et al. (2017), Accurate, Large Minibatch SGD, https://arxiv.org/abs/1706.02677 (warm-up).
    Loshchilov and Hutter (2017), SGDR, https://arxiv.org/abs/1608.03983 (cosine, restarts).
"""

from __future__ import annotations

import math

from torch.optim import Optimizer

from dlcourse.large_scale_training.schedules._checks import (
    above,
    counts,
    number,
    ratio,
    whole,
)
from dlcourse.large_scale_training.schedules.multiplier import MultiplierLR

__all__ = [
    "WarmupCosineLR",
    "cosine_multiplier",
    "cosine_with_restarts",
    "cosine_with_warmup",
    "restarts_multiplier",
]


def cosine_multiplier(
    step: int,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    min_lr_ratio: float = 0.0,
) -> float:
    """Linear warm-up from 0, then a cosine from 1 to ``min_lr_ratio``, then ``min_lr_ratio``.

    The ramp is k / W: the first step has rate 0, and step W the full rate. DINO's original code
    divides by W − 1, and is there one step earlier.

    Args:
        step: number of optimizer steps already taken, 0 or more.
        num_warmup_steps: W, steps of the ramp; 0 starts at the full rate.
        num_training_steps: T, all steps, warm-up included; at least 1 and at least W.
        num_cycles: full waves of the cosine between W and T. 0.5 is half a wave: down, and the end.
            1.0 would go down and up again; 1.5 goes down, up and down. Only k + 0.5 ends at the
            minimum of its own accord; from step T on the rate is there whatever the number.
        min_lr_ratio: r, the floor as a share of the full rate, in [0, 1].

    Raises:
        ValueError: a number is out of its range, or W > T.

    Source: Loshchilov and Hutter (2017), equation 5, after the warm-up of Goyal et al. (2017).
    """
    step, warmup, total = counts(step, num_warmup_steps, num_training_steps)
    floor, cycles = ratio(min_lr_ratio), number(num_cycles)
    if not 0 < cycles < math.inf:
        raise ValueError(f"num_cycles must be above 0 (0.5 for one way down): got {num_cycles!r}")

    if step >= total:
        return floor
    if step < warmup:
        # m = k / W
        return step / warmup
    # p = (k − W) / (T − W)
    progress = (step - warmup) / (total - warmup)
    # m = r + (1 − r) · ½ (1 + cos(2π c p))
    return above(floor, 0.5 * (1 + math.cos(2 * math.pi * cycles * progress)))


def restarts_multiplier(
    step: int,
    num_warmup_steps: int,
    first_cycle_steps: int,
    num_cycles: int,
    cycle_growth: int = 2,
    min_lr_ratio: float = 0.0,
) -> float:
    """Linear warm-up from 0, then cosines from 1 to ``min_lr_ratio``, one after another.

    Cycle i takes ``first_cycle_steps * cycle_growth ** i`` steps. At the last step of each cycle
    the weights have been annealed: they are a model that one may keep, so that the run can be ended
    there without having been planned to.

    Args:
        step: number of optimizer steps already taken, 0 or more.
        num_warmup_steps: W, steps of the ramp; 0 starts at the full rate.
        first_cycle_steps: T₀, steps of the first cycle, at least 1.
        num_cycles: number of cycles, at least 1.
        cycle_growth: T_mult, how many times longer each cycle is than the one before, at least 1.
        min_lr_ratio: r, the floor as a share of the full rate, in [0, 1].

    Raises:
        ValueError: a number is out of its range.

    Source: Loshchilov and Hutter (2017), equation 5; T_mult = 2 is among the values they try.
    """
    step = whole("step", step, least=0)
    warmup = whole("the number of warm-up steps", num_warmup_steps, least=0)
    cycle_steps = whole("first_cycle_steps", first_cycle_steps, least=1)
    cycles = whole("num_cycles", num_cycles, least=1)
    growth = whole("cycle_growth", cycle_growth, least=1)
    floor = ratio(min_lr_ratio)

    if step < warmup:
        # m = k / W
        return step / warmup
    # Whole numbers, not a remainder of a fraction: a restart is never a step early or late.
    since_restart = step - warmup
    for _ in range(cycles):
        if since_restart < cycle_steps:
            # m = r + (1 − r) · ½ (1 + cos(π T_cur / T_i))
            return above(floor, 0.5 * (1 + math.cos(math.pi * since_restart / cycle_steps)))
        since_restart -= cycle_steps
        cycle_steps *= growth
    return floor


class WarmupCosineLR(MultiplierLR):
    """Linear warm-up from ``min_lr`` to each group's base rate, a cosine back, then ``min_lr``.

    Unlike ``cosine_with_warmup`` the floor is a rate, not a ratio: the same for all groups, and
    it holds in the warm-up too.

    Args:
        optimizer: its groups' ``lr`` are the peaks.
        warmup_steps: steps of the ramp; 0 starts at the peak.
        total_steps: all steps, warm-up included; at least 1 and at least ``warmup_steps``.
        min_lr: the floor, from 0 to the smallest base rate.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self, optimizer: Optimizer, warmup_steps: int, total_steps: int, min_lr: float = 0.0
    ) -> None:
        super().__init__(
            optimizer,
            cosine_multiplier,
            min_lr=min_lr,
            num_warmup_steps=warmup_steps,
            num_training_steps=total_steps,
        )


def cosine_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    min_lr_ratio: float = 0.0,
) -> MultiplierLR:
    """Linear warm-up, cosine decay to ``min_lr_ratio`` of each group's base rate, then that floor.

    The shape, its arguments and its errors are those of ``cosine_multiplier``.
    """
    return MultiplierLR(
        optimizer,
        cosine_multiplier,
        num_warmup_steps=num_warmup_steps,
        num_training_steps=num_training_steps,
        num_cycles=num_cycles,
        min_lr_ratio=min_lr_ratio,
    )


def cosine_with_restarts(
    optimizer: Optimizer,
    num_warmup_steps: int,
    first_cycle_steps: int,
    num_cycles: int,
    cycle_growth: int = 2,
    min_lr_ratio: float = 0.0,
) -> MultiplierLR:
    """Linear warm-up, then cosine cycles that restart at the base rate, each longer than the last.

    The shape, its arguments and its errors are those of ``restarts_multiplier``.
    """
    return MultiplierLR(
        optimizer,
        restarts_multiplier,
        num_warmup_steps=num_warmup_steps,
        first_cycle_steps=first_cycle_steps,
        num_cycles=num_cycles,
        cycle_growth=cycle_growth,
        min_lr_ratio=min_lr_ratio,
    )
