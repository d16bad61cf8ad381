"""What each dtype loses, and what it saves: the same training in float32, bfloat16 and float16.

Chapter: ``119_large_scale_training/1c_mixed_precision`` (its recorded cells).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dlcourse.large_scale_training.mixed_precision import MixedPrecision
from dlcourse.large_scale_training.source_text import source_code_batch
from dlcourse.large_scale_training.transformer import Transformer, language_loss
from dlcourse.measure import interleaved

__all__ = ["gradients_lost", "losses_in", "step_times"]

CAST = {"fp16": torch.float16, "bf16": torch.bfloat16}
WAYS = {  # name: (dtype of the products, precision of those that stay in float32)
    "fp32": (torch.float32, "highest"),
    "tf32": (torch.float32, "high"),
    "bf16": (torch.bfloat16, "highest"),
    "fp16": (torch.float16, "highest"),
}


def losses_in(
    dtype: torch.dtype,
    shape: dict[str, int],
    batch: int,
    steps: int,
    *,
    seed: int = 0,
    device: str = "cuda",
) -> list[float]:
    """Losses of ``steps`` steps with ``MixedPrecision(dtype)`` on ``source_code_batch``: for one
    ``seed`` the same start and the same data in each dtype."""
    torch.manual_seed(seed)
    model = Transformer(**shape).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    amp = MixedPrecision(dtype, max_grad_norm=1.0)
    losses = []
    for step in range(steps):
        batch_ = source_code_batch(100_000 * seed + step, batch, shape["sequence"])
        losses.append(amp.step(model, optimizer, language_loss, *(t.to(device) for t in batch_)))
    return losses


def gradients_lost(
    shape: dict[str, int],
    batch: int,
    steps: int,
    *,
    seed: int = 0,
    scales: Sequence[tuple[str, int]] = (
        ("fp16", -8), ("fp16", 0), ("fp16", 8), ("fp16", 16), ("bf16", 0),
    ),
    device: str = "cuda",
) -> dict[str, Any]:
    """What 16 bits make 0 of the activation gradients of a transformer after ``steps`` steps.

    They are taken in float32, at the outputs of all linear layers. Returns the number of those that
    are not 0 ("count"), and for each ``(type, log2 of the scale)``, named such as "fp16 -8", the
    fraction of these entries that become 0 ("entries") and their part of the squared norm ("norm").
    """
    torch.manual_seed(seed)
    model = Transformer(**shape).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    amp = MixedPrecision(torch.bfloat16, max_grad_norm=1.0)
    for step in range(steps + 1):
        batch_ = source_code_batch(100_000 * seed + step, batch, shape["sequence"])
        inputs, targets = (t.to(device) for t in batch_)
        if step < steps:
            amp.step(model, optimizer, language_loss, inputs, targets)
    names = [f"{name} {exponent}" for name, exponent in scales]
    entries, norm = dict.fromkeys(names, 0), dict.fromkeys(names, 0.0)
    total = {"count": 0, "square": 0.0}

    def count(module: nn.Module, inputs: Any, outputs: Any) -> None:
        values = outputs[0][outputs[0] != 0]
        squares = values.double().square()
        total["count"] += values.numel()
        total["square"] += squares.sum().item()
        for key, (name, exponent) in zip(names, scales, strict=True):
            lost = (values * 2.0**exponent).to(CAST[name]) == 0
            entries[key] += lost.sum().item()
            norm[key] += squares[lost].sum().item()

    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_full_backward_hook(count)
    optimizer.zero_grad()
    language_loss(model(inputs), targets).backward()
    return {
        "count": total["count"],
        "entries": {key: n / total["count"] for key, n in entries.items()},
        "norm": {key: square / total["square"] for key, square in norm.items()},
    }


def step_times(
    shape: dict[str, int], batch: int, *, repeats: int = 20, device: str = "cuda"
) -> dict[str, dict[str, Any]]:
    """Seconds of a training step in each of ``WAYS``, a step of each in turn, and its peak memory.

    Returns for each way "seconds" (one a round) and "peak", the bytes that model, state and step
    held at most (None on a CPU). The peak is taken while no other model takes a step.
    """
    tensors = [t.to(device) for t in source_code_batch(0, batch, shape["sequence"])]
    before, peaks, steps = torch.get_float32_matmul_precision(), {}, {}
    on_gpu = torch.device(device).type == "cuda"
    try:
        for name, (dtype, products) in WAYS.items():
            held = torch.cuda.memory_allocated() if on_gpu else 0
            torch.manual_seed(0)
            model = Transformer(**shape).to(device)
            optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
            amp = MixedPrecision(dtype, max_grad_norm=1.0)

            def step(model=model, optimizer=optimizer, amp=amp, products=products) -> None:
                torch.set_float32_matmul_precision(products)
                amp.step(model, optimizer, language_loss, *tensors)

            step()
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            step()
            peaks[name] = torch.cuda.max_memory_allocated() - held if on_gpu else None
            steps[name] = step
        times = interleaved(steps, device, repeats=repeats, warmup=3)
    finally:
        torch.set_float32_matmul_precision(before)
    return {name: {"seconds": times[name], "peak": peaks[name]} for name in WAYS}
