"""A model as a graph of operators, and what it answers: the two sides that must agree.

Source: PyTorch's documentation of ``torch.export``; the compiler behind it is described by Ansel et
al. (2024), *PyTorch 2*, ASPLOS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .errors import NotEqualToEager

Inputs = tuple[Tensor, ...]


def export_program(
    model: nn.Module, example_inputs: Sequence[Tensor], dynamic_batch: bool = True
) -> torch.export.ExportedProgram:
    """The operators that ``model`` runs, as a graph with its weights, without its Python code.

    With ``dynamic_batch`` the first axis of each input is one symbol, from 1 on. Sizes 0 and 1 are
    always taken for constants by ``torch.export``: an example of one row is doubled first.

    Raises TypeError, ValueError: as ``checked_example``; and ``torch.export``'s own errors where
    the model can't be written as one graph (a branch on values) or fixes the batch size.
    """
    inputs = checked_example(model, example_inputs, dynamic_batch)
    shapes = None
    if dynamic_batch:
        inputs = tuple(torch.cat([x, x]) if len(x) == 1 else x for x in inputs)
        batch = torch.export.Dim("batch", min=1)
        shapes = tuple({0: batch} for _ in inputs)
    with torch.no_grad():
        if shapes is None:
            return torch.export.export(model, inputs)
        # By position: forward may have any names, or *args.
        return torch.export.export(_Positional(model).eval(), inputs, dynamic_shapes=(shapes,))


class _Positional(nn.Module):
    """The model with inputs as one tuple, so that ``dynamic_shapes`` needs none of its names."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor):
        return self.model(*inputs)


def checked_example(
    model: nn.Module, example_inputs: Sequence[Tensor], dynamic_batch: bool
) -> Inputs:
    """The example, contiguous and detached.

    Raises:
        TypeError: ``model`` is no module, or an input no dense tensor.
        ValueError: a part of the model is in training mode; there is no input; the inputs and the
            weights are on several devices; with ``dynamic_batch``, an input has no rows, or not as
            many as the first.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module: got {type(model).__name__}")
    training = [name or "the model" for name, part in model.named_modules() if part.training]
    if training:
        raise ValueError(f"{training[0]} is in training mode: call model.eval() first")
    if isinstance(example_inputs, Tensor):
        raise TypeError("example_inputs must be a tuple of tensors: write (x,) for one")
    for x in example_inputs:
        if not isinstance(x, Tensor) or x.layout != torch.strided:
            raise TypeError(f"each input must be a dense tensor: got {type(x).__name__}")
    inputs = tuple(x.detach().contiguous() for x in example_inputs)
    if not inputs:
        raise ValueError("example_inputs is empty: give one tensor for each input of the model")
    places = {t.device for t in (*inputs, *model.parameters(), *model.buffers())}
    if len(places) > 1:
        raise ValueError(f"inputs and weights are on several devices: {sorted(map(str, places))}")
    if dynamic_batch:
        sizes = [x.shape[0] if x.ndim else 0 for x in inputs]
        if min(sizes) < 1 or len(set(sizes)) > 1:
            raise ValueError(f"with dynamic_batch all inputs need as many rows, ≥ 1: got {sizes}")
    return inputs


def outputs_of(answer: object) -> list[Tensor]:
    """The tensors of an answer in order: a tensor, or tuples, lists and dicts of such.

    Raises TypeError for anything else.
    """
    if isinstance(answer, Tensor):
        return [answer]
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, (tuple, list)):
        return [tensor for part in answer for tensor in outputs_of(part)]
    raise TypeError(f"a model must answer with tensors: got {type(answer).__name__}")


@torch.no_grad()
def largest_difference(
    model: Callable, other: Callable, inputs: Inputs, tolerance: float, sizes: Sequence[int | None]
) -> float:
    """The largest |a − b| / max(1, |b|) of the answers a of ``other`` and b of ``model``.

    ``sizes`` are numbers of rows to try, made by repeating or leaving out rows; None is the example
    as it is. NaN must stand where ``model`` has NaN, and an infinite value must be equal.

    Raises NotEqualToEager where that is above ``tolerance``, or number, shape or dtype differ.
    """
    largest = 0.0
    for size in sizes:
        batch = inputs if size is None else tuple(_rows(x, size) for x in inputs)
        eager, compiled = outputs_of(model(*batch)), outputs_of(other(*batch))
        kinds = [[(x.dtype, tuple(x.shape)) for x in side] for side in (eager, compiled)]
        where = "on the example" if size is None else f"on {size} rows"
        if kinds[0] != kinds[1]:
            raise NotEqualToEager(f"{where} eager answers {kinds[0]}, the compiled {kinds[1]}")
        for b, a in zip(eager, compiled, strict=True):
            found = _difference(a, b)
            if not found <= tolerance:
                raise NotEqualToEager(
                    f"{where} the compiled model differs from eager by {found:.2g}, above the "
                    f"tolerance of {tolerance:g}: nothing was written. Is the model random, or is "
                    "its dtype too coarse for this tolerance?"
                )
            largest = max(largest, found)
    return largest


def _rows(x: Tensor, size: int) -> Tensor:
    return x[torch.arange(size, device=x.device) % len(x)]


def _difference(a: Tensor, b: Tensor) -> float:
    """The largest |a − b| / max(1, |b|); inf where one is not finite and the other not equal."""
    if not a.numel():
        return 0.0
    a, b = a.double().cpu(), b.double().cpu()
    same = (a == b) | (a.isnan() & b.isnan())
    apart = torch.where(same, 0.0, (a - b).abs() / b.abs().clamp(min=1))
    return apart.nan_to_num(nan=torch.inf).max().item()
