"""How long requests wait at one server that answers them in batches: simulated, and by formula.

Random times come from a seed and no clock is read, so every run gives the same numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks


@dataclasses.dataclass(frozen=True, eq=False)
class QueueTimes:
    """What ``simulate_queue`` found for n requests, in order of arrival; times in s."""

    start: NDArray[np.float64]  # (n,) when the request's batch began
    finish: NDArray[np.float64]  # (n,) when it was answered
    waiting: NDArray[np.float64]  # (n,) start − arrival
    sojourn: NDArray[np.float64]  # (n,) finish − arrival: what the caller notices
    batch_sizes: NDArray[np.int64]  # (batches,)


def simulate_queue(
    arrivals: ArrayLike,
    service_time: Callable[[int], float],
    max_batch_size: int = 32,
    max_delay: float = 0.0,
) -> QueueTimes:
    """One server that batches as ``ModelService`` does, with an endless queue.

    A batch starts as soon as the server is free and either a full batch waits or the oldest request
    has waited ``max_delay``. It takes the oldest ones, those that arrive at that moment included.

    Args:
        arrivals: ``(n,)`` in s, finite, ascending; equal ones come in the order given.
        service_time: batch size to seconds, finite and ≥ 0.
        max_batch_size: at least 1.
        max_delay: s, ≥ 0; 0 is greedy.

    Raises TypeError or ValueError for arguments outside of these, or a service time that is.
    """
    t = np.asarray(arrivals)
    if t.dtype.kind not in "iuf":
        raise TypeError(f"arrivals must hold real numbers: got dtype {t.dtype}")
    t = t.astype(np.float64)
    if t.ndim != 1:
        raise ValueError(f"arrivals must have shape (n,): got {t.shape}")
    if not np.isfinite(t).all() or (np.diff(t) < 0).any():
        raise ValueError("arrivals must be finite and ascending: sort them")
    if not callable(service_time):
        raise TypeError(f"service_time must map a batch size to seconds: got {service_time!r}")
    size = _checks.count(max_batch_size, "max_batch_size")
    delay = _checks.finite(max_delay, "max_delay")

    times = t.tolist()  # Python floats: faster than NumPy's one by one, and the same
    start, finish, batch_sizes = np.empty_like(t), np.empty_like(t), []
    first, free = 0, -np.inf  # the oldest request without a batch; when the server is free
    while first < len(times):
        last = first + size - 1
        full = times[last] if last < len(times) else np.inf
        # The server is free, and the batch is full or its oldest request has waited enough.
        begin = max(free, min(full, times[first] + delay))
        end = first + 1
        while end < len(times) and end <= last and times[end] <= begin:
            end += 1
        seconds = _checks.finite(service_time(end - first), f"service_time({end - first})")
        free = begin + seconds
        start[first:end], finish[first:end] = begin, free
        batch_sizes.append(end - first)
        first = end
    sizes = np.array(batch_sizes, dtype=np.int64)
    return QueueTimes(start, finish, start - t, finish - t, sizes)


def poisson_arrivals(
    rate: float, count: int, seed: int | np.random.Generator = 0
) -> NDArray[np.float64]:
    """Arrival times of a Poisson process, ``(count,)`` in s, ascending.

    Callers who do not know of each other arrive so: the gaps are independent and exponential, with
    mean 1/rate. Such a load is open: it keeps coming however slow the server is.

    Args:
        rate: requests/s, > 0.
        count: at least 1.
        seed: a number or a ``numpy.random.Generator``.
    """
    rate = _checks.finite(rate, "rate", positive=True)
    count = _checks.count(count, "count")
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


def pollaczek_khinchine_wait(rate: float, mean: float, variance: float = 0.0) -> float:
    """Mean wait in s at one server without batches, for Poisson arrivals (M/G/1).

    W = λ E[S²] / (2 (1 − ρ)) with ρ = λ E[S], which grows without bound as ρ → 1 (Kleinrock 1975,
    Queueing Systems I, section 5.6). With variance 0 it is that of M/D/1.

    Args:
        rate: λ, requests/s, > 0.
        mean, variance: of the service time S, in s (≥ 0) and s² (≥ 0).

    Raises ValueError where ρ ≥ 1: the queue grows without end.
    """
    rate = _checks.finite(rate, "rate", positive=True)
    mean = _checks.finite(mean, "mean")
    variance = _checks.finite(variance, "variance")
    load = rate * mean  # ρ
    if load >= 1:
        raise ValueError(f"the load rate · mean must be below 1: got {load:.3g}, without end")
    return rate * (variance + mean**2) / (2 * (1 - load))
