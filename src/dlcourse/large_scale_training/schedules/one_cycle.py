"""One cycle: the rate rises and falls once, and the momentum goes the other way.

Chapter: ``119_large_scale_training/3_schedules``.

Papers:
    Smith and Topin (2019), Super-Convergence, https://arxiv.org/abs/1708.07120.
    Smith (2018), A disciplined approach, https://arxiv.org/abs/1803.09820 (momentum).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import SGD, Adam, AdamW, Optimizer

from dlcourse.large_scale_training.schedules._checks import (
    check_optimizer,
    number,
    whole,
)
from dlcourse.large_scale_training.schedules.multiplier import MultiplierLR

__all__ = ["one_cycle", "one_cycle_momentum", "one_cycle_multiplier"]


def one_cycle_multiplier(step: int, total_steps: int, pct_start: float = 0.3) -> float:
    """From 1/25 of the peak up to 1 along a cosine, down to 1/250,000 along another, then constant.

    Args:
        step: number of optimizer steps already taken, 0 or more.
        total_steps: T, all steps of the cycle. The lowest rate is used at step T − 1 and after.
        pct_start: share of the cycle in which the rate rises, in (0, 1). The peak is at step
            ``pct_start * T - 1``, which must be above 0.

    Raises:
        ValueError: a number is out of its range, or leaves no step for the rise.

    Source: the idea is that of Smith and Topin (2019), who rise and fall in straight lines of equal
    length, and then fall further. The cosine form, the 30 % and the divisors 25 and 10⁴ are those
    of fastai and of ``torch.optim.lr_scheduler.OneCycleLR``.
    """
    return _one_cycle(step, total_steps, pct_start, start=1 / 25, peak=1.0, end=1 / 25 / 1e4)


def one_cycle_momentum(step: int, total_steps: int, pct_start: float = 0.3) -> float:
    """The momentum to go with ``one_cycle_multiplier``: 0.95, 0.85 where the rate peaks, and back.

    Arguments and errors are those of ``one_cycle_multiplier``.

    Source: Smith (2018): momentum falls while the rate rises. For SGD, which adds up gradients,
    a momentum of μ makes the steps under a steady gradient 1/(1 − μ) times as long. Adam divides
    its sum by its weight: its β₁ does not change that length.
    """
    return _one_cycle(step, total_steps, pct_start, start=0.95, peak=0.85, end=0.95)


def _one_cycle(
    step: int, total_steps: int, pct_start: float, *, start: float, peak: float, end: float
) -> float:
    step = whole("step", step, least=0)
    total_steps = whole("the total number of steps", total_steps, least=1)
    share = number(pct_start)
    if not 0 < share < 1:
        raise ValueError(f"pct_start must lie between 0 and 1, for example 0.3: got {pct_start!r}")
    peak_step, last_step = share * total_steps - 1, total_steps - 1
    if peak_step <= 0:
        raise ValueError(
            f"the rise of pct_start = {pct_start} of {total_steps} steps is not longer than one "
            "step: raise pct_start or total_steps"
        )
    if step <= peak_step:
        return _cosine_between(start, peak, step / peak_step)
    progress = (step - peak_step) / (last_step - peak_step)
    return _cosine_between(peak, end, min(1.0, progress))


def _cosine_between(start: float, end: float, progress: float) -> float:
    # a + (b − a) · ½ (1 − cos(π p)), written so that p = 1 gives b exactly
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


class _OneCycle(MultiplierLR):
    """What ``one_cycle`` builds: a rate, and a momentum where there is one to cycle."""

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int,
        pct_start: float,
    ) -> None:
        check_optimizer(optimizer)
        groups = optimizer.param_groups
        one = math.isfinite(number(max_lr)) or not hasattr(max_lr, "__iter__")
        peaks = [max_lr] * len(groups) if one else list(max_lr)
        if len(peaks) != len(groups):
            raise ValueError(
                f"max_lr has {len(peaks)} rates for {len(groups)} parameter groups: give one each"
            )
        if not all(0 < number(peak) < math.inf for peak in peaks):
            raise ValueError(f"max_lr must be above 0, one rate or one a group: got {max_lr!r}")
        settings = {"total_steps": total_steps, "pct_start": pct_start}
        one_cycle_multiplier(0, **settings)  # refuses bad settings before the optimizer is touched
        for group, peak in zip(groups, peaks, strict=True):
            group["initial_lr"] = float(number(peak))  # multiplier 1 is the peak
        super().__init__(optimizer, one_cycle_multiplier, **settings)

    def _name(self) -> str:
        return "one_cycle"  # not that of its shape, which moves no momentum

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        self._write_momentum()

    def move_to(self, step: int) -> None:
        super().move_to(step)
        self._write_momentum()

    def _write_momentum(self) -> None:
        settings = {key: self._settings[key] for key in ("total_steps", "pct_start")}
        momentum = one_cycle_momentum(self.last_epoch, **settings)
        for group in self.optimizer.param_groups:
            # By type, not by key: `betas` of Lion or Schedule-Free are no momentum to be cycled,
            # and every SGD has the key `momentum`, of which 0 means none.
            if isinstance(self.optimizer, SGD) and group["momentum"] > 0:
                group["momentum"] = momentum
            elif isinstance(self.optimizer, (Adam, AdamW)):
                group["betas"] = (momentum, group["betas"][1])


def one_cycle(
    optimizer: Optimizer, max_lr: float | Sequence[float], total_steps: int, pct_start: float = 0.3
) -> MultiplierLR:
    """One rise to ``max_lr`` and one fall to almost nothing; momentum falls while the rate rises.

    Momentum is cycled only where the update has one that may be moved: the groups of
    ``torch.optim.SGD`` with momentum above 0, and β₁ of ``Adam`` and ``AdamW``. There it is
    *replaced*, between 0.95 and 0.85. Every other optimizer (plain SGD, Lion, Schedule-Free, …)
    keeps its coefficients, and only its rate moves.

    The shape, its arguments and its errors are those of ``one_cycle_multiplier``, and:

    Args:
        optimizer: its own rates are replaced.
        max_lr: the peak, above 0; one number, or one for each parameter group.

    Raises:
        ValueError: ``max_lr`` is not positive, or their number is not that of the groups.
    """
    return _OneCycle(optimizer, max_lr, total_steps, pct_start)
