"""What distributed training costs: memory, communication, time (section 119.1a).

Formulas only, but for ``time_all_reduce``, which measures. Papers: Rajbhandari et al. (2020),
"ZeRO"; Patarasuk and Yuan (2009), "Bandwidth optimal all-reduce algorithms for clusters of
workstations"; Korthikanti et al. (2022), "Reducing Activation Recomputation in Large Transformer
Models"; Chowdhery et al. (2022), "PaLM", appendix B (model FLOPs utilisation).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU."""

    parameters: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        return self.parameters + self.gradients + self.optimizer


def zero_memory(
    parameters: float,
    world_size: int,
    stage: int,
    *,
    parameter_bytes: float = 2,
    gradient_bytes: float = 2,
    optimizer_bytes: float = 12,
) -> Memory:
    """Bytes of model state on each of ``world_size`` GPUs (Rajbhandari et al. 2020, section 3).

    The defaults are the paper's mixed precision with Adam: 16-bit weights and gradients, and in
    32 bits the master weights and two moments, K = 12. Training in float32 with Adam is 4, 4, 8.

    Args:
        parameters: number of the model's parameters, Psi.
        stage: 0 all is replicated (data parallel), 1 the optimizer's state is sharded, 2 the
            gradients too, 3 the parameters too (FSDP).

    Raises ValueError for another stage or a world without ranks.
    """
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"stage must be 0, 1, 2 or 3, not {stage!r}")
    _positive(parameters=parameters, world_size=world_size)
    return Memory(
        parameters=parameter_bytes * parameters / (world_size if stage >= 3 else 1),
        gradients=gradient_bytes * parameters / (world_size if stage >= 2 else 1),
        optimizer=optimizer_bytes * parameters / (world_size if stage >= 1 else 1),
    )


def ring_all_reduce_time(
    num_bytes: float, world_size: int, latency: float, bandwidth: float
) -> float:
    """Seconds for an all-reduce in a ring (Patarasuk and Yuan 2009).

    A reduce-scatter and an all-gather, each of p − 1 steps; in each step every rank sends one p-th
    of the data to its neighbour:

        t = 2 (p − 1) (alpha + n / (p · beta))

    Args:
        num_bytes: n, size of the tensor on each rank.
        world_size: p.
        latency: alpha, seconds before the first byte of a message arrives.
        bandwidth: beta, bytes a second that one rank sends.
    """
    return 2 * _ring_pass_time(num_bytes, world_size, latency, bandwidth)


def _ring_pass_time(n: float, p: int, latency: float, bandwidth: float) -> float:
    """An all-gather or a reduce-scatter: half an all-reduce."""
    _positive(world_size=p, bandwidth=bandwidth)
    return (p - 1) * (latency + n / (p * bandwidth))


def fit_alpha_beta(
    sizes: Sequence[float], times: Sequence[float], world_size: int
) -> tuple[float, float]:
    """The latency (s) and bandwidth (bytes/s) with which ``ring_all_reduce_time`` is closest to
    measured times: least squares of the *relative* error, neither below zero.

    Relative, because times span orders of magnitude and the large would decide alone.

    Raises ValueError for fewer than two different sizes, times not above 0, or one rank, which
    sends nothing.
    """
    n, t = np.asarray(sizes, float), np.asarray(times, float)
    if n.shape != t.shape or len(set(n.tolist())) < 2 or (t <= 0).any() or world_size < 2:
        raise ValueError(
            "fit_alpha_beta needs two different sizes or more, a time above 0 for each, and a "
            "world of at least 2"
        )
    from scipy.optimize import nnls

    p = world_size
    # t = a · 2(p − 1) + b · 2(p − 1) n / p with a = alpha, b = 1 / beta; rows divided by t
    design = np.stack([np.full_like(n, 2 * (p - 1)), 2 * (p - 1) * n / p], axis=1)
    scale = design.max(axis=0)  # seconds and seconds a byte: condition the columns
    (a, b), _ = nnls(design / scale / t[:, None], np.ones_like(t))
    return float(a / scale[0]), float(scale[1] / b) if b > 0 else float("inf")


def time_all_reduce(sizes: Sequence[int], *, repeats: int = 5) -> list[float]:
    """Median seconds of an all-reduce of each size in bytes, as seen by this rank; call it on every
    rank within ``distributed``."""
    import torch
    import torch.distributed as dist

    on_gpu = "nccl" in str(dist.get_backend_config())
    medians = []
    for size in sizes:
        tensor = torch.zeros(max(1, size // 4), device="cuda" if on_gpu else "cpu")
        seconds = []
        for _ in range(repeats + 1):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(tensor)
            if on_gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        medians.append(statistics.median(seconds[1:]))  # the first one opens connections
    return medians


def activation_bytes(
    batch: float, sequence: int, hidden: int, layers: int, heads: int, recompute: str = "attention"
) -> float:
    """Bytes of 16-bit activations kept for the backward pass of a transformer on one GPU
    (Korthikanti et al. 2022, equation 1 and table 2), without embedding and logits.

    Args:
        batch: sequences on this GPU at once, b.
        recompute: "nothing": s b h L (34 + 5 a s / h). "attention": 34 s b h L, which is selective
            recomputation, and what a fused attention kernel keeps. "blocks": 2 s b h L, only each
            block's input (activation checkpointing).
    """
    per_token_and_width = {
        "nothing": 34 + 5 * heads * sequence / hidden,
        "attention": 34,
        "blocks": 2,
    }
    if recompute not in per_token_and_width:
        raise ValueError(f"recompute must be one of {list(per_token_and_width)}: {recompute!r}")
    return sequence * batch * hidden * layers * per_token_and_width[recompute]


@dataclass(frozen=True)
class Plan:
    """What ``plan`` foresees for one GPU and one step."""

    layers: int
    hidden: int
    model_state: Memory  # bytes
    activations: float  # bytes
    compute_time: float  # s
    communication_time: float  # s
    step_time: float  # s
    tokens_per_second: float  # of all GPUs
    mfu: float  # useful FLOP/s over the peak, 0 .. 1

    @property
    def memory(self) -> float:
        """Bytes of everything."""
        return self.model_state.total + self.activations


def plan(
    parameters: float,
    gpus: int,
    *,
    batch: int,
    sequence: int,
    stage: int = 3,
    recompute: str = "attention",
    peak_flops: float = 800e12,
    efficiency: float = 0.7,
    latency: float = 1e-5,
    bandwidth: float = 50e9,
) -> Plan:
    """Foresee memory, time and utilisation of training a decoder-only transformer.

    Assumptions, each an approximation:
    - shape: parameters = 12 L h² with h = 128 L and heads 128 wide (embeddings left out), which is
      close to the published shapes from 1 to 200 billion;
    - useful work: 6 · parameters + 12 L h s FLOPs a token, attention not halved for the causal
      mask (Chowdhery et al. 2022, appendix B); recomputing costs more time but is not useful;
    - matrix products reach ``efficiency`` of ``peak_flops``;
    - 16-bit weights and gradients, Adam in 32 bits: ``zero_memory``'s defaults; ``Memory`` has no
      room for buffers of messages and fragmentation;
    - messages go round a ring of all GPUs: one all-reduce of the gradients for stage 0, the same
      volume for 1 and 2, half as much again for 3, which also gathers the weights twice
      (Rajbhandari et al. 2020, section 7), block by block;
    - they are hidden behind the computing as far as it lasts: step = max(compute, communication).

    Args:
        batch: sequences a step over all GPUs, without accumulation.
        sequence: tokens a sequence.
        stage, recompute: as in ``zero_memory`` and ``activation_bytes``.
        peak_flops: dense 16-bit FLOP/s of one GPU, best measured.
        latency, bandwidth: of a message, in s, and of one GPU's link, in bytes/s.

    Raises ValueError if a number is not above 0, or a GPU would get less than one sequence.
    """
    _positive(parameters=parameters, gpus=gpus, sequence=sequence, peak_flops=peak_flops)
    _positive(efficiency=efficiency)
    if batch < gpus:
        raise ValueError(f"batch {batch} leaves some of {gpus} GPUs without a sequence")
    layers = max(1, round((parameters / (12 * 128**2)) ** (1 / 3)))
    hidden = 128 * layers
    tokens = batch * sequence / gpus  # of one GPU

    attention = 12 * layers * hidden * sequence  # a third of it is the forward pass
    useful = (6 * parameters + attention) * tokens
    again = {"nothing": 0, "attention": attention / 3, "blocks": 2 * parameters + attention / 3}
    activations = activation_bytes(batch / gpus, sequence, hidden, layers, layers, recompute)
    compute = (useful + again[recompute] * tokens) / (peak_flops * efficiency)

    passes = {0: 2, 1: 2, 2: 2, 3: 3}
    state = zero_memory(parameters, gpus, stage)
    a_pass = _ring_pass_time(2 * parameters / layers, gpus, latency, bandwidth)  # of one block
    communication = passes[stage] * layers * a_pass

    step = max(compute, communication)
    return Plan(
        layers=layers,
        hidden=hidden,
        model_state=state,
        activations=activations,
        compute_time=compute,
        communication_time=communication,
        step_time=step,
        tokens_per_second=batch * sequence / step,
        mfu=useful / (step * peak_flops),
    )


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value!r}")
