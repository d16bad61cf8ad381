"""How long optimizers take for a step over many tensors, beside a plain copy.

Chapter: ``119_large_scale_training/2_optimizers`` (its recorded cell).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcourse.large_scale_training.optimizers.lion import Lion, lion_step_reference
from dlcourse.large_scale_training.optimizers.schedule_free import AdamWScheduleFree
from dlcourse.measure import interleaved

__all__ = ["disagreement", "measure_optimizers", "transformer_shapes"]

MAKERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "AdamW foreach": lambda p: torch.optim.AdamW(p, foreach=True),
    "AdamW fused": lambda p: torch.optim.AdamW(p, fused=True),
    "Lion loop": lambda p: Lion(p, implementation="loop"),
    "Lion foreach": lambda p: Lion(p, implementation="foreach"),
    "Lion compiled": lambda p: Lion(p, implementation="compiled"),
    "Lion triton": lambda p: Lion(p, implementation="triton"),
    "Schedule-Free foreach": lambda p: AdamWScheduleFree(p, implementation="foreach"),
}
NUMBERS_MOVED = {"AdamW": 7, "Lion": 5, "Schedule-Free": 7}  # read and written, for a parameter


def transformer_shapes(width: int = 768, blocks: int = 12) -> list[tuple[int, ...]]:
    """Shapes of a transformer's parameters: two embeddings, and 12 tensors a block."""
    block = [(3 * width, width), (3 * width,), (width, width), (width,)]
    block += [(4 * width, width), (4 * width,), (width, 4 * width)] + 5 * [(width,)]
    return [(16384, width), (1024, width)] + blocks * block


def disagreement(form: str, device: torch.device | str, dtype: torch.dtype) -> float:
    """Share of elements in which 3 steps of a form of Lion leave the reference's by more than
    rounding does (a direction that is 0 but for rounding may get another sign)."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(5000,), (3,), (64, 129), (), (8192,)]
    params = [
        nn.Parameter(torch.randn(shape, generator=generator).to(device, dtype)) for shape in shapes
    ]
    expected = [p.detach().float().clone() for p in params]
    momenta = [torch.zeros_like(p) for p in expected]
    optimizer = Lion(params, lr=0.01, weight_decay=0.1, implementation=form)
    for _ in range(3):
        for i, p in enumerate(params):
            p.grad = torch.randn(p.shape, generator=generator).to(device, dtype)
            new, momenta[i] = lion_step_reference(
                expected[i], p.grad.float(), momenta[i],
                lr=0.01, beta1=0.9, beta2=0.99, weight_decay=0.1,
            )  # fmt: skip
            expected[i] = new.to(dtype).float()
        optimizer.step()
    # one unit in the last place of bfloat16 is 2⁻⁷ of the number or less
    close = 1e-5 if dtype == torch.float32 else 2**-7
    wrong = sum(
        ((p.float() - e).abs() > close * e.abs().clamp(min=1)).sum().item()
        for p, e in zip(params, expected)
    )
    return wrong / sum(p.numel() for p in params)


def measure_optimizers(
    shapes: Sequence[tuple[int, ...]],
    device: torch.device | str,
    *,
    names: Sequence[str] = tuple(MAKERS),
    repeats: int = 15,
    copied: int = 2**28,
) -> dict[str, Any]:
    """Time a step of each optimizer, in turn, and a plain copy of ``copied`` float32.

    Each is timed twice: "alone" on an idle device, where the host's work before a kernel starts
    counts too, and "queued" behind other work, as in training, where the device need not wait for
    the host. On a CPU the two are the same.

    Returns for each name its milliseconds of all repeats, alone and queued, and the bytes that a
    step must move; for the copy its bytes for each second, of all repeats.
    """
    device = torch.device(device)
    count = sum(math.prod(shape) for shape in shapes)
    functions: dict[str, Callable[[], object]] = {}
    for name in names:
        params = [nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer = MAKERS[name](params)
        for _ in range(2):  # makes the state, compiles
            optimizer.step()
        functions[name] = optimizer.step
    source = torch.zeros(copied, device=device)
    target = torch.empty_like(source)
    functions["copy"] = lambda: target.copy_(source)
    alone = interleaved(functions, device, repeats=repeats, warmup=3)
    queued = alone
    if device.type == "cuda":
        big = torch.randn(8192, 8192, device=device)
        queued = {name: [] for name in functions}
        for _ in range(repeats):
            for name, function in functions.items():
                queued[name].append(_behind(function, big))
    return {
        "parameters": count,
        "tensors": len(shapes),
        "alone": {name: [1000 * t for t in alone[name]] for name in names},
        "queued": {name: [1000 * t for t in queued[name]] for name in names},
        "bytes": {name: 4 * count * NUMBERS_MOVED[name.split()[0]] for name in names},
        "copy": [2 * 4 * copied / t for t in queued["copy"]],
    }


def _behind(function: Callable[[], object], big: Tensor) -> float:
    """Seconds of a call on the GPU, which the host hands over while the GPU is busy."""
    torch.cuda.synchronize()
    for _ in range(2):
        big @ big  # tens of milliseconds, in which the host runs ahead
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000
