"""A step of Lion over any number of tensors in one kernel, written in Triton.

Chapter: ``119_large_scale_training/2_optimizers``.

A transformer has hundreds of tensors, and a GPU that is handed one after the other waits for the
host most of the time. Here the host hands over a table: where each tensor lies, and how long it is.
The kernel is started once. Each of its programs takes one block of one tensor, reads its parameter,
gradient and momentum once, and writes two of them once.

Imported by ``Lion`` at its first step with ``implementation="triton"``: it needs the package triton.
With ``TRITON_INTERPRET=1`` Triton runs the kernel on a CPU, slowly, for tests.
"""

from __future__ import annotations

import contextlib
import functools
import os

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["fits", "lion_kernel", "lion_step"]

BLOCK = 4096  # elements a program
_TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def lion_kernel(
    addresses,  # (3 · tensors,) int64: where each parameter, gradient and momentum begins
    sizes,  # (tensors,) int64: elements of each
    owners,  # (programs,) int64: the tensor that a program works on
    blocks,  # (programs,) int64: and which of its blocks
    tensors,
    lr,
    beta1,
    one_minus_beta1,
    beta2,
    one_minus_beta2,
    weight_decay,
    TYPE: tl.constexpr,  # of parameters and gradients; momenta are float32
    SIZE: tl.constexpr,  # elements a block
    ALIGNED: tl.constexpr,  # whether all addresses and sizes are multiples of 16
):
    """One block of one tensor."""
    program = tl.program_id(0)
    tensor = tl.load(owners + program)
    size = tl.load(sizes + tensor)
    i = tl.load(blocks + program) * SIZE + tl.arange(0, SIZE)

    p_at = tl.load(addresses + tensor).to(tl.pointer_type(TYPE)) + i
    g_at = tl.load(addresses + tensors + tensor).to(tl.pointer_type(TYPE)) + i
    m_at = tl.load(addresses + 2 * tensors + tensor).to(tl.pointer_type(tl.float32)) + i
    if ALIGNED:  # lets the compiler move 16 bytes at a time
        size = size // 16 * 16  # the same number, of which the compiler knows it
        p_at = tl.multiple_of(p_at, 16)
        g_at = tl.multiple_of(g_at, 16)
        m_at = tl.multiple_of(m_at, 16)
    inside = i < size

    p = tl.load(p_at, mask=inside).to(tl.float32)
    g = tl.load(g_at, mask=inside).to(tl.float32)
    m = tl.load(m_at, mask=inside)
    # c_t = β₁ m_{t−1} + (1 − β₁) g_t
    c = beta1 * m + one_minus_beta1 * g
    # sign(c_t): 0 for 0, and for NaN, as in torch
    sign = tl.where(c > 0, 1.0, 0.0) - tl.where(c < 0, 1.0, 0.0)
    # θ_t = θ_{t−1} − η (sign(c_t) + λ θ_{t−1})
    tl.store(p_at, (p - lr * (sign + weight_decay * p)).to(TYPE), mask=inside)
    # m_t = β₂ m_{t−1} + (1 − β₂) g_t
    tl.store(m_at, beta2 * m + one_minus_beta2 * g, mask=inside)


def fits(p: Tensor, g: Tensor, m: Tensor) -> bool:
    """Whether the kernel can take a parameter: the elements lie in memory in one order, no gaps."""
    if p.dtype not in _TYPES or g.dtype != p.dtype or m.dtype != torch.float32:
        return False
    if p.is_contiguous() and g.is_contiguous() and m.is_contiguous():
        return True
    dense = torch.ops.aten.is_non_overlapping_and_dense(p)
    return dense and p.stride() == g.stride() == m.stride()


def lion_step(
    ps: list[Tensor],
    gs: list[Tensor],
    ms: list[Tensor],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
) -> None:
    """One step of Lion, in place, for tensors of one device and dtype that ``fits`` lets pass.

    Equal to ``lion_step_reference`` in float32, up to the order of roundings.

    Raises RuntimeError for tensors on a CPU.
    """
    device = ps[0].device
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError(
            'implementation="triton" needs parameters on a GPU: use implementation="auto"'
        )
    sizes = tuple(p.numel() for p in ps)
    addresses = tuple(t.data_ptr() for ts in (ps, gs, ms) for t in ts)
    owners, blocks, on_device = work(sizes, BLOCK, device)
    if not len(owners):
        return
    on_gpu = device.type == "cuda"
    stream = torch.cuda.current_stream(device).cuda_stream if on_gpu else 0
    with torch.cuda.device(device) if on_gpu else contextlib.nullcontext():
        lion_kernel[(len(owners),)](
            table(addresses, device, stream),
            on_device,
            owners,
            blocks,
            len(ps),
            lr,
            beta1,
            1 - beta1,
            beta2,
            1 - beta2,
            weight_decay,
            TYPE=_TYPES[ps[0].dtype],
            SIZE=BLOCK,
            ALIGNED=aligned(sizes, addresses),
            num_warps=8,
            enable_fp_fusion=False,  # round as the reference does
        )


@functools.lru_cache(maxsize=64)
def work(
    sizes: tuple[int, ...], block: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """What each program does: its tensor (programs,), its block (programs,); and the sizes.

    A tensor of n elements has ⌈n / block⌉ programs, an empty one none.
    """
    on_host = torch.tensor(sizes, dtype=torch.int64)
    programs = (on_host + block - 1) // block
    owners = torch.repeat_interleave(torch.arange(len(sizes)), programs)
    blocks = torch.arange(len(owners)) - (programs.cumsum(0) - programs)[owners]
    return owners.to(device), blocks.to(device), on_host.to(device)


@functools.lru_cache(maxsize=64)
def table(addresses: tuple[int, ...], device: torch.device, stream: int) -> Tensor:
    """The addresses on the device. Gradients mostly come back to the same places, so that it is
    copied in the first steps only."""
    on_host = torch.tensor(addresses, dtype=torch.int64)
    if device.type != "cuda":
        return on_host
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            'a step with implementation="triton" is one kernel already, and can be captured in a '
            "CUDA graph only after a step on the same stream with the same gradients' memory"
        )
    return on_host.pin_memory().to(device, non_blocking=True)


@functools.lru_cache(maxsize=64)
def aligned(sizes: tuple[int, ...], addresses: tuple[int, ...]) -> bool:
    """Whether each address (in bytes) and each size (in elements) is a multiple of 16."""
    return not any(number % 16 for number in (*sizes, *addresses))
