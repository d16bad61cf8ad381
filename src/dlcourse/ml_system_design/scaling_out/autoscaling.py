"""A fleet that grows and shrinks with the load, and what is late before it has grown.

    Kubernetes, *Horizontal Pod Autoscaling*, "Algorithm details":
        desired = ceil(current · metric / target).
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model_service import _checks
from .replicas import _checked_times


@dataclass(frozen=True)
class FleetState:
    """What an autoscaler sees at a look."""

    time: float  # s
    replicas: int  # ready, or starting
    ready: int
    inside: int  # requests that wait or are served
    busy: float  # share of the ready replicas' time since the last look that was used, in [0, 1]


@dataclass(frozen=True, eq=False)
class FleetTimes:
    """What ``simulate_fleet`` found: ``sojourn`` ``(n,)`` in s, and a row for each look."""

    sojourn: NDArray[np.float64]
    looks: list[FleetState]


def simulate_fleet(
    arrivals: ArrayLike,
    service: float,
    desired: Callable[[FleetState], int],
    *,
    first: int = 1,
    most: int = 100,
    start_up: float = 30.0,
    every: float = 5.0,
) -> FleetTimes:
    """Replicas with one shared queue, whose number an autoscaler changes.

    Each ``every`` seconds ``desired`` is asked how many replicas there should be. New ones are
    ready ``start_up`` seconds later. Those too many end as soon as they are idle, starting ones
    first.

    Args:
        arrivals: ``(n,)`` in s, finite, ascending, at least 0.
        service: seconds of a request, > 0.
        desired: from a ``FleetState`` to a number, which is kept within 1 … ``most``.
        first: replicas that are ready at 0.
        most: replicas at most.
        start_up, every: s, ≥ 0 and > 0.

    Raises TypeError or ValueError for arguments outside of these.
    """
    t = _checked_times(arrivals, "arrivals")
    if (np.diff(t) < 0).any() or (len(t) and t[0] < 0):
        raise ValueError("arrivals must be ascending, from 0 on: sort them")
    service = _checks.finite(service, "service", positive=True)
    first, most = _checks.count(first, "first"), _checks.count(most, "most")
    start_up = _checks.finite(start_up, "start_up")
    every = _checks.finite(every, "every", positive=True)

    # Events in order of time; at the same time answers come first, then replicas, arrivals, looks.
    events = [(float(now), 2, i) for i, now in enumerate(t)]
    events.append((every, 3, 0))
    heapq.heapify(events)
    waiting: list[int] = []
    head = 0  # of the queue
    ready, working, leaving = first, 0, 0
    starting: set[int] = set()  # numbers of those that start; one that is called off is taken out
    started = 0
    used, last, sojourn, answered, looks = 0.0, 0.0, np.empty(len(t)), 0, []
    possible = 0.0  # replica-seconds since the last look

    def advance(now: float) -> None:
        nonlocal used, possible, last
        used += working * (now - last)
        possible += ready * (now - last)
        last = now

    while answered < len(t):
        now, kind, i = heapq.heappop(events)
        advance(now)
        if kind == 0:  # an answer
            sojourn[i] = now - t[i]
            answered += 1
            working -= 1
            if leaving:
                ready, leaving = ready - 1, leaving - 1
        elif kind == 1:  # a replica is ready, unless it was called off
            if i in starting:
                starting.remove(i)
                ready += 1
        elif kind == 2:
            waiting.append(i)
        else:
            state = FleetState(
                now, ready + len(starting) - leaving, ready, len(waiting) - head + working,
                used / possible if possible else 1.0,
            )  # fmt: skip
            looks.append(state)
            used = possible = 0.0
            change = min(max(int(desired(state)), 1), most) - state.replicas
            for _ in range(max(change, 0)):
                if leaving:
                    leaving -= 1
                else:
                    starting.add(started)
                    heapq.heappush(events, (now + start_up, 1, started))
                    started += 1
            for _ in range(max(-change, 0)):
                if starting:
                    starting.remove(max(starting))
                elif ready - working - leaving > 0:
                    ready -= 1
                else:
                    leaving += 1
            heapq.heappush(events, (now + every, 3, 0))
        while head < len(waiting) and working < ready - leaving:
            heapq.heappush(events, (now + service, 0, waiting[head]))
            head, working = head + 1, working + 1
    return FleetTimes(sojourn, looks)


def by_utilisation(target: float = 0.7) -> Callable[[FleetState], int]:
    """desired = ⌈ready · busy / target⌉: near an overload ``busy`` is 1, however long the queue.

    Those that are starting count for nothing yet, as in Kubernetes: with them in the product each
    look would ask for more, while the first new ones are on their way.
    """
    target = _checks.finite(target, "target", positive=True)
    return lambda state: math.ceil(state.ready * state.busy / target - 1e-9)


def by_requests(target: float = 0.7) -> Callable[[FleetState], int]:
    """desired = ⌈inside / target⌉: as many requests a replica as ``target``; a queue counts too."""
    target = _checks.finite(target, "target", positive=True)
    return lambda state: math.ceil(state.inside / target - 1e-9)


def stabilised(desired: Callable[[FleetState], int], looks: int) -> Callable[[FleetState], int]:
    """The largest wish of the last so many looks: up at once, down slowly.

    Without it a moment in which few requests are inside ends replicas that the next one needs
    (Kubernetes' stabilisation window for going down, 300 s by default).
    """
    looks = _checks.count(looks, "looks")
    wishes: deque[int] = deque(maxlen=looks)

    def most_wanted(state: FleetState) -> int:
        wishes.append(int(desired(state)))
        return max(wishes)

    return most_wanted
