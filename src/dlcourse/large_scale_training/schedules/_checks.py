"""Checks and small sums that the shapes share."""

from __future__ import annotations

from numbers import Integral, Real

from torch.optim import Optimizer


def check_optimizer(optimizer: object) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"a schedule needs a torch.optim.Optimizer, got {type(optimizer).__name__}")


def is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def plain(value: Real) -> int | float:
    """Python's own number, so that a saved state holds no NumPy scalars."""
    return int(value) if isinstance(value, Integral) else float(value)


def check_count(name: str, value: int, *, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number, {least} or more: got {value!r}")


def check_counts(step: int, num_warmup_steps: int, num_training_steps: int) -> None:
    check_count("step", step, least=0)
    check_count("the number of warm-up steps", num_warmup_steps, least=0)
    check_count("the number of training steps", num_training_steps, least=1)
    if num_warmup_steps > num_training_steps:
        raise ValueError(
            f"a warm-up of {num_warmup_steps} steps does not fit in {num_training_steps} training "
            "steps, which include it: shorten the warm-up, or train longer"
        )


def check_ratio(min_lr_ratio: float) -> None:
    if not (is_number(min_lr_ratio) and 0 <= min_lr_ratio <= 1):
        raise ValueError(
            f"min_lr_ratio is a share of the base rate, in [0, 1]: got {min_lr_ratio!r}. "
            "For an absolute floor use WarmupCosineLR(min_lr=…)"
        )


def above(floor: float, shape: float) -> float:
    """Squeeze a shape from [0, 1] into [floor, 1]: clipping would not keep its form."""
    return floor + (1 - floor) * shape
