"""What a piece of work costs: operations counted on paper, time and memory measured.

One definition of each for all chapters and for ``benchmarks/``, so that a rate or a utilisation on
one page means the same on another.

Papers:
    Vaswani et al. (2017), *Attention Is All You Need* (the products that are counted).
    Korthikanti et al. (2022), *Reducing Activation Recomputation in Large Transformer Models* (what
    is kept for the backward pass).
    Chowdhery et al. (2022), *PaLM*, appendix B (utilisation: useful operations over the peak).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = [
    "StepCost",
    "attention_flops",
    "interleaved",
    "matmul_peak",
    "measure_step",
    "saved_bytes",
    "time_call",
    "transformer_activations",
    "transformer_flops",
]

Clock = Literal["wall", "processor"]
_CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


# --- On paper --------------------------------------------------------------------------------


def attention_flops(tokens: int, dim: int, depth: int, *, causal: bool = False) -> float:
    """Floating-point operations of the two products of attention, forward, over one example.

    A multiplication and an addition count as two: with n tokens of width D, q kᵀ and the weighted
    sum of v take 2 n² D each in every one of ``depth`` blocks. With ``causal`` half of that counts,
    since a causal kernel skips what the mask hides.
    """
    return depth * 4 * tokens**2 * dim / (2 if causal else 1)


def transformer_flops(
    tokens: int, dim: int, depth: int, mlp_ratio: float = 4.0, *, causal: bool = False
) -> float:
    """Floating-point operations of the forward pass of ``depth`` blocks over one example.

    Matrix products only: with n tokens of width D, a block's projections and MLP take
    2 n D² (4 + 2 · mlp_ratio), to which ``attention_flops`` is added. A training step takes three
    times as many: forward, and two products backward for each forward.
    """
    weights = depth * 2 * tokens * dim**2 * (4 + 2 * mlp_ratio)
    return weights + attention_flops(tokens, dim, depth, causal=causal)


def transformer_activations(tokens: int, dim: int, depth: int, mlp_ratio: float = 4.0) -> float:
    """About how many numbers ``depth`` blocks keep for the backward pass over one example.

    For each token and block: the inputs of both norms (2 D), of the projections and the MLP (3 D),
    queries, keys, values (3 D), the attention's result (D), and the MLP's hidden layer before and
    after the GELU. Attention weights are not kept by a fused kernel.

    Source: Korthikanti et al. (2022), section 4.1, without dropout and attention weights.
    """
    return tokens * dim * depth * (9 + 2 * mlp_ratio)


# --- Time ------------------------------------------------------------------------------------


def time_call(
    function: Callable[[], object], device: torch.device | str = "cpu", *, clock: Clock = "wall"
) -> float:
    """Seconds of one call of ``function``.

    On a GPU it is the time between two events on the current stream, before and after the call, on
    an idle device. On a CPU ``clock`` decides: "wall" is the time that passes; "processor" what the
    process's threads computed together, which other processes disturb little.

    Raises ValueError for another clock.
    """
    if clock not in _CLOCKS:
        raise ValueError(f"clock must be one of {', '.join(_CLOCKS)}: got {clock!r}")
    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            begin.record()
            function()
            end.record()
            torch.cuda.synchronize()
            return begin.elapsed_time(end) / 1000
    now = _CLOCKS[clock]
    begin = now()
    function()
    return now() - begin


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    device: torch.device | str = "cpu",
    *,
    repeats: int,
    warmup: int = 1,
    clock: Clock = "wall",
) -> dict[str, list[float]]:
    """Seconds of each call of several functions, ``repeats`` times one call of each in turn.

    So another process on the machine disturbs all alike: compare the least or the median of each,
    not two measurements one after the other. ``warmup`` rounds before are not counted.

    Raises ValueError for a count out of range, or another clock.
    """
    _check_counts(warmup, repeats)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(warmup + repeats):
        for name, function in functions.items():
            times[name].append(time_call(function, device, clock=clock))
    return {name: seconds[warmup:] for name, seconds in times.items()}


@dataclass(frozen=True)
class StepCost:
    """What ``measure_step`` saw."""

    seconds: float  # of one step, the median
    first_seconds: float  # of the first, which compiles what is to be compiled
    peak_bytes: int | None  # most memory of the GPU that tensors held; None on a CPU


def measure_step(
    step: Callable[[], object],
    device: torch.device | str,
    *,
    warmup: int = 3,
    repeats: int = 15,
    clock: Clock = "processor",
) -> StepCost:
    """Time of a step and its peak memory: the first call, ``warmup`` more, then ``repeats``.

    ``clock`` is that of ``time_call``. Raises ValueError for a count out of range.
    """
    _check_counts(warmup, repeats)
    device = torch.device(device)
    first = time_call(step, device, clock=clock)
    for _ in range(warmup):
        step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = statistics.median(time_call(step, device, clock=clock) for _ in range(repeats))
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return StepCost(seconds, first, peak)


def matmul_peak(
    device: torch.device | str = "cuda",
    dtype: torch.dtype = torch.bfloat16,
    *,
    size: int = 8192,
    repeats: int = 30,
) -> float:
    """FLOP/s that this device reaches in a (size × size) matrix product: what utilisation is
    measured against. A data sheet's figure is higher than any product reaches.

    It is the best of ``repeats``, not the median: a disturbance makes a product slower, never
    faster. So the best is nearest to what the device can do, and no utilisation looks good because
    the peak was measured badly.

    Raises ValueError for a size or a count below 1.
    """
    if size < 1 or repeats < 1:
        raise ValueError(f"need size >= 1 and repeats >= 1, got {size} and {repeats}")
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    return 2 * size**3 / min(time_call(lambda: a @ b, device) for _ in range(repeats))


def _check_counts(warmup: int, repeats: int) -> None:
    if warmup < 0 or repeats < 1:
        raise ValueError(f"need warmup >= 0 and repeats >= 1, got {warmup} and {repeats}")


# --- Memory ----------------------------------------------------------------------------------


def saved_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes that ``forward()`` keeps for its backward pass, the model's parameters not counted.

    Exact, and the same in every run: autograd hands each tensor that it keeps to a hook.
    """
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}  # address → bytes; two views of one storage count once

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()  # held until all is counted, so that no address is used twice
    total = sum(kept.values())
    del result
    return total
