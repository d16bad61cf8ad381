"""Checks and small sums that the shapes share.

A number may come as Python's, NumPy's or a tensor's: each check hands Python's own back, so that
nothing else gets into a sum or a saved state.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer


def check_optimizer(optimizer: object) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"a schedule needs a torch.optim.Optimizer, got {type(optimizer).__name__}")


def plain(value: Any) -> Any:
    """Python's own number for a NumPy scalar and for a tensor or array of no dimensions; anything
    else as it is."""
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) and value.ndim == 0:
        return value.item()
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else value


def number(value: Any) -> int | float:
    """Python's own number; NaN for what is none, which every comparison refuses."""
    value = plain(value)
    return value if isinstance(value, Real) and not isinstance(value, bool) else math.nan


def whole(name: str, value: Any, *, least: int) -> int:
    """A count. Raises ValueError for what is none, or below ``least``."""
    count = plain(value)
    if not isinstance(count, int) or isinstance(count, bool) or count < least:
        raise ValueError(f"{name} must be a whole number, {least} or more: got {value!r}")
    return count


def counts(step: Any, num_warmup_steps: Any, num_training_steps: Any) -> tuple[int, int, int]:
    step = whole("step", step, least=0)
    warmup = whole("the number of warm-up steps", num_warmup_steps, least=0)
    total = whole("the number of training steps", num_training_steps, least=1)
    if warmup > total:
        raise ValueError(
            f"a warm-up of {warmup} steps does not fit in {total} training "
            "steps, which include it: shorten the warm-up, or train longer"
        )
    return step, warmup, total


def ratio(min_lr_ratio: Any) -> float:
    share = number(min_lr_ratio)
    if not 0 <= share <= 1:
        raise ValueError(
            f"min_lr_ratio is a share of the base rate, in [0, 1]: got {min_lr_ratio!r}. "
            "For an absolute floor use WarmupCosineLR(min_lr=…)"
        )
    return float(share)


def above(floor: float, shape: float) -> float:
    """Squeeze a shape from [0, 1] into [floor, 1]: clipping would not keep its form."""
    return floor + (1 - floor) * shape
