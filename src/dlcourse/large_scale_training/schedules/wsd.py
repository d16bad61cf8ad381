"""Warm-up, a stable phase, and a decay that may branch off at any time.

Chapter: ``119_large_scale_training/3_schedules``.

Papers:
    Hu et al. (2024), MiniCPM, https://arxiv.org/abs/2404.06395 (warm-up, stable, decay).
    Hägele et al. (2024), Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations, https://arxiv.org/abs/2405.18392 (the form of the decay).
"""

from __future__ import annotations

import math

from torch.optim import Optimizer

from dlcourse.large_scale_training.schedules._checks import (
    above,
    counts,
    number,
    ratio,
)
from dlcourse.large_scale_training.schedules.multiplier import MultiplierLR

__all__ = ["warmup_stable_decay", "wsd_multiplier"]


def wsd_multiplier(
    step: int,
    num_warmup_steps: int,
    num_training_steps: int,
    decay_fraction: float = 0.2,
    min_lr_ratio: float = 0.0,
) -> float:
    """Linear warm-up from 0, a stable phase at 1, and a decay to ``min_lr_ratio`` in the last part.

    Until the decay starts, the multiplier does not depend on ``num_training_steps``: one stable run
    serves every length, each with a short decay of its own that branches off.

    With a floor, the ramp still starts at 0, as those of the other shapes do; that of
    ``transformers.get_wsd_schedule`` starts at the floor.

    Args:
        step: number of optimizer steps already taken, 0 or more.
        num_warmup_steps: W, steps of the ramp; 0 starts at the full rate.
        num_training_steps: T, all steps; at least 1.
        decay_fraction: share of T in which the rate decays, in (0, 1]: D = round(share · T) steps,
            at least one. Warm-up and decay together must fit in T.
        min_lr_ratio: r, the floor as a share of the full rate, in [0, 1].

    Raises:
        ValueError: a number is out of its range, or W + D > T.

    Source: the three phases of Hu et al. (2024), with the 1 − √p decay of Hägele et al. (2024), who
    find it better than a linear one.
    """
    step, warmup, total = counts(step, num_warmup_steps, num_training_steps)
    floor, share = ratio(min_lr_ratio), number(decay_fraction)
    if not 0 < share <= 1:
        raise ValueError(f"decay_fraction must lie in (0, 1], like 0.2: got {decay_fraction!r}")
    decay_steps = max(1, round(share * total))
    decay_start = total - decay_steps
    if warmup > decay_start:
        raise ValueError(
            f"a warm-up of {warmup} steps and a decay of {decay_steps} do not fit in {total} "
            "steps: shorten one of them, or train longer"
        )

    if step < warmup:
        # m = k / W
        return step / warmup
    if step < decay_start:
        # m = 1
        return 1.0
    if step >= total:
        return floor
    # p = (k − (T − D)) / D
    progress = (step - decay_start) / decay_steps
    # m = r + (1 − r) (1 − √p)
    return above(floor, 1 - math.sqrt(progress))


def warmup_stable_decay(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    decay_fraction: float = 0.2,
    min_lr_ratio: float = 0.0,
) -> MultiplierLR:
    """Linear warm-up, a constant rate, a 1 − √p decay over the last ``decay_fraction`` of the run.

    The shape, its arguments and its errors are those of ``wsd_multiplier``. To branch a decay off
    a stable run that was saved at step k, build the schedule with the new ``num_training_steps`` on
    the restored optimizer and call ``move_to(k)``.
    """
    return MultiplierLR(
        optimizer,
        wsd_multiplier,
        num_warmup_steps=num_warmup_steps,
        num_training_steps=num_training_steps,
        decay_fraction=decay_fraction,
        min_lr_ratio=min_lr_ratio,
    )
