"""123.2a: Little's law from a log of arrivals and answers."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def little(arrived, answered):
    """Return (L, rate, T): mean number inside, requests/s, and mean time inside in s.

    arrived, answered: (n,) in s, of the same requests; neither need be sorted. The time that counts
    is that from the first arrival to the last answer, which is above 0.
    """
    span = answered.max() - arrived.min()
    inside = (answered - arrived).sum() / span
    return float(inside), float(len(arrived) / span), float((answered - arrived).mean())


def cases(rng):
    """Requests that overlap, in random order; answers overtake."""
    n = int(rng.integers(3, 12))
    arrived = rng.uniform(2, 10, n)
    return {"arrived": arrived, "answered": arrived + rng.exponential(2, n) + 0.01}


def edges():
    """One; all at once; one after the other, with a gap; an answer that overtakes."""
    return {
        "one request": {"arrived": np.array([3.0]), "answered": np.array([5.0])},
        "all at once": {"arrived": np.ones(4), "answered": np.array([2.0, 3.0, 4.0, 5.0])},
        "with a gap": {"arrived": np.array([1.0, 6.0]), "answered": np.array([2.0, 7.0])},
        "one overtakes": {"arrived": np.array([0.0, 1.0]), "answered": np.array([9.0, 2.0])},
        "an answer at once": {"arrived": np.array([0.0, 1.0]), "answered": np.array([0.0, 3.0])},
    }


def listing_at_arrivals(arrived, answered):
    """The document looks at the queue only when a request arrives."""
    seen = [np.sum((arrived <= t) & (answered > t)) for t in arrived]
    return float(np.mean(seen)), *little(arrived, answered)[1:]


def from_zero(arrived, answered):
    span = answered.max()
    total = (answered - arrived).sum()
    return float(total / span), float(len(arrived) / span), float(total / len(arrived))


def arrivals_only(arrived, answered):
    rate = len(arrived) / max(np.ptp(arrived), 1e-9)
    took = (answered - arrived).mean()
    return float(rate * took), float(rate), float(took)


def last_in_order(arrived, answered):
    span = answered[-1] - arrived[0]
    span = span if span > 0 else 1.0
    total = (answered - arrived).sum()
    return float(total / span), float(len(arrived) / span), float(total / len(arrived))


def inverse(arrived, answered):
    _, rate, took = little(arrived, answered)
    return float(rate / took), rate, took


def median(arrived, answered):
    _, rate, _ = little(arrived, answered)
    took = float(np.median(answered - arrived))
    return rate * took, rate, took


EXERCISE = Exercise(
    key="123.2a.little",
    title="How many are inside?",
    difficulty="extend",
    statement=r"""
A service logs when each request arrived and when it was answered. From the first arrival to the
last answer: return the mean number of requests inside (over time), the rate in requests per second, and
the mean time that a request spent inside, as `(L, rate, T)`.

The service is empty before and after, so that Little's law $L = \lambda T$ holds exactly.
""",
    imports="import numpy as np",
    reference=little,
    cases=cases,
    edges=edges,
    hints=[
        "The area under the number inside is the sum of all times inside.",
        "The time that counts goes from the least arrival to the largest answer.",
        "L = Σ (answered − arrived) / span, λ = n / span, T = Σ (answered − arrived) / n.",
    ],
    mistakes={
        "listing_at_arrivals": Mistake(
            answer=listing_at_arrivals,
            hint="the number inside is taken only when a request arrives, as the document looks at "
            "its queue. The mean is over time.",
        ),
        "from_zero": Mistake(
            answer=from_zero, hint="time begins at 0. It begins at the first arrival."
        ),
        "arrivals_only": Mistake(
            answer=arrivals_only, hint="time ends at the last arrival. It ends at the last answer."
        ),
        "last_in_order": Mistake(
            answer=last_in_order, hint="the log isn't sorted: the last row need not end last."
        ),
        "inverse": Mistake(answer=inverse, hint="L is the rate times T; you divide."),
        "median": Mistake(answer=median, hint="the law is about the mean time, not the median."),
    },
)
