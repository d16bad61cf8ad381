"""The scheduler that applies a shape: a rate that is a function of the step alone.

Chapter: ``119_large_scale_training/3_schedules``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dlcourse.large_scale_training.schedules._checks import (
    check_optimizer,
    number,
    plain,
    whole,
)

__all__ = ["MultiplierLR"]

# A saved state holds the shape's value at these steps, from the first to past the millionth.
PROBES = sorted({0, *(round(2 ** (i / 2)) for i in range(41))})


class MultiplierLR(LRScheduler):
    """A rate that is a function of the step k: min_lr + (base_lr − min_lr) · multiplier(k).

    Call ``step()`` once after each ``optimizer.step()``. Each parameter group keeps its own base
    rate: the ``lr`` that it has when the first scheduler is built on the optimizer (PyTorch keeps
    it in the group as ``initial_lr``, and a second scheduler starts from that).

    The rate is absolute: each step writes it anew, whatever was in the optimizer before. So two of
    these on one optimizer do not multiply, as a chain of PyTorch's schedulers does; the last one to
    be stepped wins. To combine shapes, write one function of the step.

    A parameter group that is added to the optimizer later is on the schedule from the next
    ``step()`` or ``move_to`` on, with its own ``lr`` as its base rate.

    ``state_dict`` holds numbers and the shape's name, so it can be saved with ``torch.save`` and
    loaded with ``weights_only=True``. ``load_state_dict`` restores the step and the base rates, and
    writes the rates into the optimizer, so it does not matter whether the optimizer's own state is
    loaded before or after. A state of another shape, or of other numbers, is refused: a resumed run
    must not change its course in silence. Shapes are told apart by name, by settings, and by their
    values at ``PROBES`` and at the saved step, since two lambdas have one name; functions that
    agree in all of these are taken for the same. To change the schedule on purpose, build the new
    one and ``move_to`` the step.

    A call that raises has changed neither the schedule nor the optimizer.

    Args:
        optimizer: its groups' ``lr`` become the base rates.
        multiplier: pure function ``(step, **settings) -> float``, of this module or your own; also
            a lambda, a ``functools.partial`` or an object that can be called.
        min_lr: rate at multiplier 0, the same for every group; from 0 to the smallest base rate.
        settings: the numbers that ``multiplier`` wants besides the step. Here and everywhere a
            number may be Python's, NumPy's, or a tensor of no dimensions.

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
        settings = {key: plain(value) for key, value in settings.items()}
        base_lrs = [float(g.get("initial_lr", g["lr"])) for g in optimizer.param_groups]
        _check_floor(min_lr, base_lrs)
        self._multiplier = multiplier
        self._settings = {"min_lr": float(number(min_lr))} | settings
        self._value_at(0)  # refuses bad settings before the optimizer is touched
        for group, base_lr in zip(optimizer.param_groups, base_lrs, strict=True):
            group["initial_lr"] = base_lr  # a number, whatever the rate is kept in
        super().__init__(optimizer)

    def rates_at(self, step: int) -> list[float]:
        """The rate of each group at a step: past, present or future. Changes nothing."""
        min_lr, multiplier = self._settings["min_lr"], self._value_at(step)
        # η_k = η_min + (η_base − η_min) · m_k
        return [min_lr + (base_lr - min_lr) * multiplier for base_lr in self.base_lrs]

    def get_lr(self) -> list[float]:
        """What ``LRScheduler.step`` asks for; use ``get_last_lr`` or ``rates_at``."""
        return self.rates_at(self.last_epoch)

    def step(self, epoch: int | None = None) -> None:
        """Go to the next step. Call it after ``optimizer.step()``.

        Raises:
            ValueError: the optimizer has lost a parameter group, or has a new one whose rate is
                below the floor; or the shape has no value.
        """
        base_lrs = self._bases()
        self._value_at(self.last_epoch + 1 if epoch is None else epoch)  # fails here, if it must
        self._adopt(base_lrs)
        super().step(epoch)
        self._last_lr = self.rates_at(self.last_epoch)

    def move_to(self, step: int) -> None:
        """Go to a step at once, forwards or backwards: the next ``optimizer.step()`` uses its rate.

        Raises:
            ValueError: ``step`` is not a whole number, 0 or more; or one of those of ``step``.
        """
        step, base_lrs = whole("step", step, least=0), self._bases()
        self._value_at(step)  # fails here, if it must
        self._adopt(base_lrs)
        rates = self.rates_at(step)
        self.last_epoch = step
        self._step_count = step + 1  # as if step() had been called that often
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], torch.Tensor):  # a compiled step holds on to this tensor
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = rates

    def state_dict(self) -> dict[str, Any]:
        """The shape's name, numbers and values, the base rates and the step: no function."""
        return {
            "schedule": self._name(),
            "settings": dict(self._settings),
            "values": self._values(self.last_epoch),
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
        step = whole("the state's step", state_dict["last_epoch"], least=0)
        settings = {key: plain(value) for key, value in state_dict["settings"].items()}
        on_purpose = (
            "Build this one as the saved one was; or, to change the schedule on purpose, don't "
            f"load its state but call move_to({step})"
        )
        for key, saved in (("schedule", state_dict["schedule"]), ("settings", settings)):
            if own[key] != saved:
                raise ValueError(
                    f"the state was saved by another schedule: {key} {saved}, here {own[key]}. "
                    f"{on_purpose}"
                )
        for probe, saved, here in zip(
            _probes(step), state_dict["values"], self._values(step), strict=True
        ):
            if not _same(plain(saved), here):
                raise ValueError(
                    f"the state was saved by another schedule: its multiplier at step {probe} is "
                    f"{saved}, here {here}, though both are called {own['schedule']}. {on_purpose}"
                )
        base_lrs = [float(rate) for rate in state_dict["base_lrs"]]
        groups = len(self.optimizer.param_groups)
        if groups != len(base_lrs):
            raise ValueError(
                f"the state has {len(base_lrs)} parameter groups, the optimizer has "
                f"{groups}: build the optimizer with the same groups"
            )
        _check_floor(self._settings["min_lr"], base_lrs)
        self._value_at(step)  # fails here, if it must
        self._adopt(base_lrs)
        self.move_to(step)

    def _value_at(self, step: int) -> float:
        settings = {key: value for key, value in self._settings.items() if key != "min_lr"}
        value = float(self._multiplier(plain(step), **settings))
        if not math.isfinite(value):
            raise ValueError(f"the multiplier at step {step} is {value}, not a finite number")
        return value

    def _values(self, step: int) -> list[float | None]:
        """The shape at the probes for a state of this step; None where it has no value."""
        values = []
        for probe in _probes(step):
            try:
                values.append(self._value_at(probe))
            except Exception:  # a shape of one's own may end, for instance with its table
                values.append(None)
        return values

    def _name(self) -> str:
        return _name_of(self._multiplier)

    def _bases(self) -> list[float]:
        """The base rates, with those of groups that have been added since. Changes nothing."""
        groups, known = self.optimizer.param_groups, len(self.base_lrs)
        if len(groups) < known:
            raise ValueError(
                f"the schedule was built for {known} parameter groups, the optimizer has "
                f"{len(groups)} now: build the schedule again, and move it to this step with "
                f"move_to({self.last_epoch})"
            )
        new = [float(group.get("initial_lr", group["lr"])) for group in groups[known:]]
        if new:
            _check_floor(self._settings["min_lr"], new)
        return [*self.base_lrs, *new]

    def _adopt(self, base_lrs: list[float]) -> None:
        self.base_lrs = base_lrs
        for group, base_lr in zip(self.optimizer.param_groups, base_lrs, strict=True):
            group["initial_lr"] = base_lr  # a number, whatever the rate is kept in


def _check_floor(min_lr: Any, base_lrs: list[float]) -> None:
    if not 0 <= number(min_lr) <= min(base_lrs):
        raise ValueError(
            f"min_lr must lie between 0 and the smallest base rate, {min(base_lrs)}: got {min_lr!r}"
        )


def _probes(step: int) -> list[int]:
    return [*PROBES, step, step + 1]


def _name_of(function: Callable[..., float]) -> str:
    """A name that is the same in the next process; of a partial, with what it holds on to."""
    if isinstance(function, functools.partial):
        held = [repr(plain(value)) for value in function.args]
        held += [f"{key}={plain(value)!r}" for key, value in sorted(function.keywords.items())]
        return f"{_name_of(function.func)}({', '.join(held)})"
    return getattr(function, "__qualname__", type(function).__qualname__)


def _same(saved: float | None, here: float | None) -> bool:
    if saved is None or here is None:
        return saved is here
    return math.isclose(saved, here, rel_tol=1e-9, abs_tol=1e-300)  # libraries round differently
