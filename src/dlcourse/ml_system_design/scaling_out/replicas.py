"""Several servers behind a load balancer: how long requests wait, simulated and by formula.

Random times and choices come from a seed and no clock is read, so every run gives the same numbers.

Papers:
    Mitzenmacher (2001), *The Power of Two Choices in Randomized Load Balancing*.
    Erlang (1917); Kleinrock (1975), *Queueing Systems I*, section 3.5 (M/M/m).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model_service import _checks

Policy = Literal["random", "round robin", "two choices", "shortest queue"]


def simulate_replicas(
    arrivals: ArrayLike,
    services: ArrayLike,
    replicas: int,
    policy: Policy = "two choices",
    *,
    stale: float = 0.0,
    seed: int | np.random.Generator = 0,
) -> NDArray[np.float64]:
    """Seconds from arrival to answer, ``(n,)``, behind a balancer that sends each request at once.

    Each replica has a queue of its own and serves in order of arrival. The balancer knows how many
    requests are inside each replica, waiting or served:

    - "random": any replica;
    - "round robin": one after the other;
    - "two choices": two different ones are drawn, and the one with fewer inside takes it;
    - "shortest queue": the one with the fewest of all. Ties are drawn.

    Args:
        arrivals: ``(n,)`` in s, finite, ascending.
        services: ``(n,)`` in s, what each request takes, finite and ≥ 0.
        replicas: at least 1.
        policy: one of the four.
        stale: the balancer looks at the replicas each ``stale`` seconds only, and counts nothing
            itself in between; 0 looks at each arrival.
        seed: of the draws.

    Raises TypeError or ValueError for arguments outside of these.
    """
    t = _checked_times(arrivals, "arrivals")
    if (np.diff(t) < 0).any():
        raise ValueError("arrivals must be ascending: sort them")
    s = _checked_times(services, "services")
    if len(s) != len(t) or (s < 0).any():
        raise ValueError(f"services must be {len(t)} times of at least 0, one for each arrival")
    count = _checks.count(replicas, "replicas")
    if policy not in get_args(Policy):
        raise ValueError(f"policy must be one of {', '.join(get_args(Policy))}: got {policy!r}")
    stale = _checks.finite(stale, "stale")
    rng = np.random.default_rng(seed)

    inside: list[deque[float]] = [deque() for _ in range(count)]  # when each request ends, ascending
    seen, look = [0] * count, -math.inf  # what the balancer knows, and when it looks again
    sojourn = np.empty(len(t))
    for i, now in enumerate(t.tolist()):
        if now >= look:
            moment = now if stale == 0 else math.floor(now / stale) * stale
            for queue in inside:
                while queue and queue[0] <= moment:
                    queue.popleft()
            seen = [len(queue) for queue in inside]
            look = now if stale == 0 else moment + stale
        chosen = _choose(policy, seen, i, rng)
        queue = inside[chosen]
        free = queue[-1] if queue else now
        queue.append(max(now, free) + s[i])
        sojourn[i] = queue[-1] - now
    return sojourn


def _choose(policy: Policy, inside: list[int], i: int, rng: np.random.Generator) -> int:
    """The replica of the i-th request."""
    n = len(inside)
    if policy == "random" or n == 1:
        return int(rng.integers(n))
    if policy == "round robin":
        return i % n
    if policy == "two choices":
        a = int(rng.integers(n))
        b = (a + 1 + int(rng.integers(n - 1))) % n  # another one
        return a if inside[a] <= inside[b] else b  # which of the two came first was drawn
    least = min(inside)
    return int(rng.choice([k for k, number in enumerate(inside) if number == least]))


def erlang_c(replicas: int, load: float) -> float:
    """The share of requests that wait at ``replicas`` servers with one queue (M/M/n).

    C = B / (1 − ρ (1 − B)) with ρ = load / n, from Erlang's B by its recursion
    B_k = load B_{k−1} / (k + load B_{k−1}), B_0 = 1, which no factorial overflows.

    Args:
        replicas: n, at least 1.
        load: arrivals per mean service time (erlangs), > 0 and < n.

    Raises ValueError where the load is not below n: the queue grows without end.
    """
    n = _checks.count(replicas, "replicas")
    load = _checks.finite(load, "load", positive=True)
    if load >= n:
        raise ValueError(f"the load must be below {n} replicas: got {load:.3g}, without end")
    blocked = 1.0
    for k in range(1, n + 1):
        blocked = load * blocked / (k + load * blocked)
    return blocked / (1 - load / n * (1 - blocked))


def erlang_c_wait(replicas: int, rate: float, mean: float) -> float:
    """Mean wait in s at n servers with one queue: W = C E[S] / (n − λ E[S]) (M/M/n).

    No balancer that sends requests on at once can do better in the mean, for exponential service
    times: a shared queue never leaves a server idle while a request waits.

    Args:
        replicas: n, at least 1.
        rate: λ, requests/s, > 0.
        mean: of the exponential service time, in s, > 0.
    """
    rate = _checks.finite(rate, "rate", positive=True)
    mean = _checks.finite(mean, "mean", positive=True)
    return erlang_c(replicas, rate * mean) * mean / (replicas - rate * mean)


def replicas_needed(rate: float, mean: float, most: float) -> int:
    """The least number of replicas whose mean wait (``erlang_c_wait``) is at most ``most`` s."""
    most = _checks.finite(most, "most", positive=True)
    rate = _checks.finite(rate, "rate", positive=True)
    mean = _checks.finite(mean, "mean", positive=True)
    n = math.floor(rate * mean) + 1
    while erlang_c_wait(n, rate, mean) > most:
        n += 1
    return n


def _checked_times(values: ArrayLike, name: str) -> NDArray[np.float64]:
    t = np.asarray(values)
    if t.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers: got dtype {t.dtype}")
    t = t.astype(np.float64)
    if t.ndim != 1 or not np.isfinite(t).all():
        raise ValueError(f"{name} must be finite, of shape (n,): got shape {t.shape}")
    return t
