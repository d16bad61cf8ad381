"""Seconds of an all-reduce: the ring's formula, its fit to measured times, and the measuring.

Chapter: ``119_large_scale_training/1a_distributed``.

Paper: Patarasuk and Yuan (2009), "Bandwidth optimal all-reduce algorithms for clusters of
workstations".
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.distributed as dist

from dlcourse.large_scale_training.distributed._checks import positive
from dlcourse.measure import time_call

__all__ = ["fit_alpha_beta", "ring_all_reduce_time", "ring_pass_time", "time_all_reduce"]


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
    return 2 * ring_pass_time(num_bytes, world_size, latency, bandwidth)


def ring_pass_time(n: float, p: int, latency: float, bandwidth: float) -> float:
    """An all-gather or a reduce-scatter: half an all-reduce."""
    positive(world_size=p, bandwidth=bandwidth)
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


def time_all_reduce(
    sizes: Sequence[int], *, repeats: int = 5, device: str | None = None
) -> list[float]:
    """Median seconds of an all-reduce of each size in bytes, as seen by this rank; call it on every
    rank within ``distributed``.

    ``device`` is "cuda" (NCCL) or "cpu" (gloo); None: cuda where the group has NCCL.
    """
    if device is None:
        device = "cuda" if "nccl" in str(dist.get_backend_config()) else "cpu"
    medians = []
    for size in sizes:
        tensor = torch.zeros(max(1, size // 4), device=device)
        seconds = []
        for _ in range(repeats + 1):
            dist.barrier()
            seconds.append(time_call(partial(dist.all_reduce, tensor), device))
        medians.append(statistics.median(seconds[1:]))  # the first one opens connections
    return medians
