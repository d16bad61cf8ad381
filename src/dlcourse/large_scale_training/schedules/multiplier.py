"""The scheduler that applies a shape: a rate that is a function of the step alone.

Chapter: ``119_large_scale_training/3_schedules``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dlcourse.large_scale_training.schedules._checks import (
    check_optimizer,
    is_number,
    plain,
)

__all__ = ["MultiplierLR"]


class MultiplierLR(LRScheduler):
    """A rate that is a function of the step k: min_lr + (base_lr − min_lr) · multiplier(k).

    Call ``step()`` once after each ``optimizer.step()``. Each parameter group keeps its own base
    rate: the ``lr`` that it has when the first scheduler is built on the optimizer (PyTorch keeps
    it in the group as ``initial_lr``, and a second scheduler starts from that).

    ``state_dict`` holds numbers only, so it can be saved with ``torch.save`` and loaded with
    ``weights_only=True``. ``load_state_dict`` restores the step and the base rates, and writes the
    rates into the optimizer, so it does not matter whether the optimizer's own state is loaded
    before or after. A state of another shape, or of other numbers, is refused: a resumed run must
    not change its course in silence. To change it on purpose, build the new schedule and
    ``move_to`` the step.

    Args:
        optimizer: its groups' ``lr`` become the base rates.
        multiplier: pure function ``(step, **settings) -> float``, of this module or your own.
        min_lr: rate at multiplier 0, the same for every group; from 0 to the smallest base rate.
        settings: the numbers that ``multiplier`` wants besides the step.

    Raises:
        TypeError: ``optimizer`` is not one.
        ValueError: ``min_lr`` or a setting is out of its range. The optimizer is untouched.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: Callable[..., float],
        *,
        min_lr: float = 0.0,
        **settings: float,
    ) -> None:
        check_optimizer(optimizer)
        multiplier(0, **settings)  # refuses bad settings before the optimizer is touched
        smallest = min(float(g.get("initial_lr", g["lr"])) for g in optimizer.param_groups)
        if not (is_number(min_lr) and 0 <= min_lr <= smallest):
            raise ValueError(
                f"min_lr must lie between 0 and the smallest base rate, {smallest}: got {min_lr!r}"
            )
        self._multiplier = multiplier
        self._settings = {"min_lr": float(min_lr)} | {k: plain(v) for k, v in settings.items()}
        super().__init__(optimizer)

    def rates_at(self, step: int) -> list[float]:
        """The rate of each group at a step: past, present or future. Changes nothing."""
        settings = dict(self._settings)
        min_lr = settings.pop("min_lr")
        multiplier = self._multiplier(step, **settings)
        # η_k = η_min + (η_base − η_min) · m_k
        return [min_lr + (base_lr - min_lr) * multiplier for base_lr in self.base_lrs]

    def get_lr(self) -> list[float]:
        """What ``LRScheduler.step`` asks for; use ``get_last_lr`` or ``rates_at``."""
        return self.rates_at(self.last_epoch)

    def move_to(self, step: int) -> None:
        """Go to a step at once, forwards or backwards: the next ``optimizer.step()`` uses its rate.

        Raises:
            ValueError: ``step`` is not a whole number, 0 or more.
        """
        rates = self.rates_at(step)
        self.last_epoch = int(step)
        self._step_count = int(step) + 1  # as if step() had been called that often
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], torch.Tensor):  # a compiled step holds on to this tensor
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = rates

    def state_dict(self) -> dict[str, Any]:
        """The shape's name, its numbers, the base rates and the step. No function, no optimizer."""
        return {
            "schedule": self._multiplier.__name__,
            "settings": dict(self._settings),
            "base_lrs": list(self.base_lrs),
            "last_epoch": self.last_epoch,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where a schedule of the same shape and numbers was saved.

        Raises:
            ValueError: the state is of another schedule, other numbers, or another number of
                parameter groups; nothing is changed.
        """
        own = self.state_dict()
        if own.keys() != state_dict.keys():
            raise ValueError(
                f"not the state of a {type(self).__name__}: expected the keys {sorted(own)}, "
                f"got {sorted(state_dict)}"
            )
        for key in ("schedule", "settings"):
            if own[key] != state_dict[key]:
                raise ValueError(
                    f"the state was saved by another schedule: {key} {state_dict[key]}, here "
                    f"{own[key]}. Build this one with the saved numbers; or, to change the "
                    "schedule on purpose, don't load its state but call "
                    f"move_to({state_dict['last_epoch']})"
                )
        if len(own["base_lrs"]) != len(state_dict["base_lrs"]):
            raise ValueError(
                f"the state has {len(state_dict['base_lrs'])} parameter groups, the optimizer has "
                f"{len(own['base_lrs'])}: build the optimizer with the same groups"
            )
        self.base_lrs = list(state_dict["base_lrs"])
        self.move_to(state_dict["last_epoch"])
