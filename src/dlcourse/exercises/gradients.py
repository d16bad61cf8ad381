"""Whether an answer can be trained through: its gradients beside the reference's."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlcourse.exercises.compare import FormDifference, difference, is_tensor, parts_of, snapshot
from dlcourse.exercises.limits import time_limit

#: Room for another order of the sums, as a share of the largest element of a gradient.
RTOL = 1e-5


@dataclass(frozen=True)
class Gradients:
    """The gradients of one call, by argument. ``cut`` lists the results that carry none."""

    values: Mapping[str, Any]
    cut: tuple[int, ...] = ()


@contextlib.contextmanager
def enabled() -> Iterator[None]:
    """Inside, gradients are recorded and tensors are made on the CPU, as the cases are.

    Whatever a learner's notebook has switched off, or made its default device.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    elsewhere = torch.get_default_device().type != "cpu"
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.device("cpu") if elsewhere else contextlib.nullcontext(),
    ):
        yield


def gradients(
    function: Callable[..., Any],
    inputs: Mapping[str, Any],
    names: Sequence[str],
    seconds: float,
) -> Gradients:
    """Differentiate a weighted sum of all results of ``function`` for the arguments ``names``.

    The weights differ from element to element, so that errors do not cancel. Raises what the
    function or its backward pass raises, and ``TimeLimit``.
    """
    import torch

    with time_limit(seconds), enabled():
        given = {name: snapshot(value) for name, value in inputs.items()}
        leaves = [given[name].requires_grad_() for name in names]
        result = function(*given.values())
        total, cut = torch.zeros((), dtype=torch.float64), []
        for index, part in enumerate(parts_of(result)):
            if is_tensor(part) and part.requires_grad:
                weights = torch.cos(torch.arange(part.numel(), dtype=torch.float64)) + 1.5
                total = total + (part.double() * weights.view(part.shape)).sum()
            else:
                cut.append(index)
        zeros = [torch.zeros_like(leaf) for leaf in leaves]
        found: Sequence[Any] = [None] * len(leaves)
        if total.requires_grad:
            found = torch.autograd.grad(total, leaves, allow_unused=True)
    values = {
        name: zero if gradient is None else gradient.detach()
        for name, gradient, zero in zip(names, found, zeros, strict=True)
    }
    return Gradients(values, tuple(cut))


def gradient_difference(expected: Gradients, got: Gradients, atol: float = 0.0) -> str | None:
    """Say how the gradients of an answer whose values are right differ from the reference's."""
    if set(got.cut) - set(expected.cut):
        return FormDifference(
            "the values are right, but no gradient flows back from them, so that nothing could be "
            "trained. NumPy, `.item()`, `.detach()` and `torch.no_grad()` cut it off"
        )
    for name, want in expected.values.items():
        largest = float(want.abs().max()) if want.numel() else 0.0
        found = difference(
            want, got.values.get(name), rtol=RTOL, atol=atol + RTOL * largest, path="there",
            any_float=("there",),
        )  # fmt: skip
        if found:
            where = found.removeprefix("there: ")
            return f"the values are right, but not their gradient for `{name}`: {where}"
    return None
