"""123.2c: how many replicas does it take?"""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def replicas_for(rate, mean, most):
    """Return (n, wait): the least number of replicas whose mean wait is at most `most`, and that.

    rate: requests/s; mean: of an exponential service time, in s; most: in s, > 0. One queue for
    all replicas (M/M/n).
    """
    load = rate * mean
    blocked, n = 1.0, 0
    while True:
        n += 1
        blocked = load * blocked / (n + load * blocked)  # Erlang's B for n servers
        if load < n:
            waits = blocked / (1 - load / n * (1 - blocked))  # Erlang's C
            wait = waits * mean / (n - load)
            if wait <= most:
                return n, float(wait)


def cases(rng):
    """Loads of a tenth to thirty servers, and a wait of a hundredth to three service times."""
    mean = float(rng.uniform(0.05, 2))
    return {
        "rate": float(rng.uniform(0.1, 30)) / mean,
        "mean": mean,
        "most": mean * float(10 ** rng.uniform(-2, 0.5)),
    }


def edges():
    """Almost no load; a load of exactly two servers; a large fleet; a wait that is hardly bounded."""
    return {
        "almost no load": {"rate": 0.01, "mean": 1.0, "most": 0.1},
        "load of exactly two": {"rate": 2.0, "mean": 1.0, "most": 0.5},
        "a large fleet": {"rate": 190.0, "mean": 1.0, "most": 0.01},
        "any wait will do": {"rate": 4.5, "mean": 1.0, "most": 1e6},
        "milliseconds": {"rate": 900.0, "mean": 0.004, "most": 0.001},
    }


def listing_utilisation(rate, mean, most):
    """As many as the work needs, and no thought of waiting."""
    n = int(np.floor(rate * mean)) + 1
    return n, _wait(n, rate * mean, mean)


def separate_queues(rate, mean, most):
    n = int(np.floor(rate * mean)) + 1
    while (rho := rate * mean / n) / (1 - rho) * mean > most:
        n += 1
    return n, float(rho / (1 - rho) * mean)


def blocking(rate, mean, most):
    load, blocked, n = rate * mean, 1.0, 0
    while True:
        n += 1
        blocked = load * blocked / (n + load * blocked)
        if load < n and (wait := blocked * mean / (n - load)) <= most:
            return n, float(wait)


def one_too_many(rate, mean, most):
    n, _ = replicas_for(rate, mean, most)
    return n + 1, _wait(n + 1, rate * mean, mean)


def with_service(rate, mean, most):
    n, wait = replicas_for(rate, mean, most)
    return n, wait + mean


def _wait(n, load, mean):
    blocked = 1.0
    for k in range(1, n + 1):
        blocked = load * blocked / (k + load * blocked)
    return float(blocked / (1 - load / n * (1 - blocked)) * mean / (n - load))


EXERCISE = Exercise(
    key="123.2c.waiting-share",
    title="How many replicas?",
    difficulty="implement",
    statement=r"""
Requests come at random (Poisson), and service times are exponential. All replicas take from one queue.
Return `(n, wait)`: the least number of replicas whose mean wait is at most `most` seconds, and the
mean wait that they give.

With the load $a = \lambda\, \mathbb E[S]$, Erlang's B for $k$ servers is
$B_k = a B_{k-1} / (k + a B_{k-1})$ with $B_0 = 1$. For $a < n$ the share that waits is
$C = B_n / (1 - \tfrac{a}{n} (1 - B_n))$, and the mean wait $W = C\, \mathbb E[S] / (n - a)$.
""",
    imports="import numpy as np",
    reference=replicas_for,
    cases=cases,
    edges=edges,
    hints=[
        "Go up from n = 1, and take the recursion along.",
        "n servers are too few while the load is not below n, whatever the formula says.",
        "W = C · mean / (n − load), and C comes from B.",
    ],
    mistakes={
        "listing_utilisation": Mistake(
            answer=listing_utilisation,
            hint="that is the least number that can do the work at all. Near it the wait has no bound.",
        ),
        "separate_queues": Mistake(
            answer=separate_queues,
            hint="each replica has a queue of its own (M/M/1). With one queue nobody waits while a "
            "replica is idle, so fewer are enough.",
        ),
        "blocking": Mistake(
            answer=blocking,
            hint="B is the share that is turned away where nobody may wait. Here they wait: use C.",
        ),
        "one_too_many": Mistake(answer=one_too_many, hint="one replica less is enough."),
        "with_service": Mistake(
            answer=with_service, hint="the wait ends where the service begins; leave out the service."
        ),
    },
)
