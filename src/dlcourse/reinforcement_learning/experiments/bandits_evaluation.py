"""Off-policy estimators against a truth that is known, and on real logs (section 122.2b)."""

from __future__ import annotations

import numpy as np

from dlcourse.datasets import BanditLog, open_bandit
from dlcourse.reinforcement_learning.bandits.off_policy import (
    Estimate,
    doubly_robust,
    inverse_propensity_score,
    self_normalized_ips,
)
from dlcourse.reinforcement_learning.experiments.bandits_intervals import Mean

ESTIMATORS = ("model", "IPS", "clipped IPS", "SNIPS", "DR")
CLIP = 5.0
CLIPS = (None, 1000.0, 100.0, 30.0, 10.0, 3.0, 1.0)


def policies(distance: float, contexts: int = 20, arms: int = 10, rate: float = 0.3):
    """Mean rewards, a logging and a target policy, each ``(contexts, arms)``.

    Rewards are 0 or 1 with a mean around ``rate``. The target prefers good arms, and the logging
    policy is the target's softmax with its logits times 1 − distance: 0 is the same policy, 1 is
    uniform logging, and above 1 it prefers the arms that the target avoids.
    """
    rng = np.random.default_rng(5)
    quality = rng.standard_normal((contexts, arms))
    mean = rate * (0.25 + 1.5 / (1 + np.exp(-quality)))  # between 0.25 and 1.75 times the rate
    logits = 2.0 * quality

    def softmax(z):
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    return mean, softmax((1 - distance) * logits), softmax(logits)


def draw_log(rng: np.random.Generator, n: int, mean, logging):
    """Contexts, arms and rewards of n choices of the logging policy."""
    x = rng.integers(0, len(mean), n)
    arm = (logging[x].cumsum(1) < rng.random((n, 1))).sum(1).clip(max=mean.shape[1] - 1)
    return x, arm, (rng.random(n) < mean[x, arm]).astype(np.float64)


def arm_means(x, arm, reward, shape, prior: float = 1.0) -> np.ndarray:
    """A model q̂ of the reward, ``shape``: the arm's mean, whatever the context (so it is biased).

    The log's mean counts as ``prior`` further observations of each arm.
    """
    total = np.bincount(arm, reward, minlength=shape[1])
    count = np.bincount(arm, minlength=shape[1])
    return np.tile((total + prior * reward.mean()) / (count + prior), (shape[0], 1))


def cross_fitted(x, arm, reward, target) -> tuple[np.ndarray, np.ndarray]:
    """q̂(x, a) of the logged arm and q̂(x, π), each row by a model of the other half of the rows."""
    q, v = np.empty(len(x)), np.empty(len(x))
    half = np.arange(len(x)) % 2
    for k in (0, 1):
        fit, use = half != k, half == k
        model = arm_means(x[fit], arm[fit], reward[fit], target.shape)
        q[use] = model[x[use], arm[use]]
        v[use] = (target * model).sum(1)[x[use]]
    return q, v


def all_estimates(x, arm, reward, p, target) -> dict[str, Estimate]:
    """Each estimator on one log.

    The interval of "model" has the spread of its predictions only. That the model was estimated is
    not in it, so it is too short even where the model has no bias.
    """
    pi = target[x, arm]
    q, v = cross_fitted(x, arm, reward, target)
    ones = np.ones(len(x))
    return {
        "model": inverse_propensity_score(v, ones, ones),
        "IPS": inverse_propensity_score(reward, p, pi),
        "clipped IPS": inverse_propensity_score(reward, p, pi, clip=CLIP),
        "SNIPS": self_normalized_ips(reward, p, pi),
        "DR": doubly_robust(reward, p, pi, q, v),
    }


def against_the_truth(
    distance: float, n: int = 1000, rate: float = 0.3, replications: int = 2000, seed: int = 0
) -> dict:
    """Bias, standard deviation, root mean squared error and coverage of the 95 % intervals.

    Returns "truth", "effective" (the median effective sample size as a share of n), "clicks" (the
    mean number of rewards of 1) and a dict for each estimator, with the bias's standard error.
    """
    mean, logging, target = policies(distance, rate=rate)
    truth = float((target * mean).sum(1).mean())
    rng = np.random.default_rng([122, seed])
    found: dict[str, list[Estimate]] = {name: [] for name in ESTIMATORS}
    clicks = []
    for _ in range(replications):
        x, arm, r = draw_log(rng, n, mean, logging)
        clicks.append(r.sum())
        for name, estimate in all_estimates(x, arm, r, logging[x, arm], target).items():
            found[name].append(estimate)
    result: dict = {
        "truth": truth,
        "clicks": float(np.mean(clicks)),
        "effective": float(np.median([e.effective_sample_size for e in found["IPS"]]) / n),
    }
    for name, estimates in found.items():
        values = np.array([e.value for e in estimates])
        cover = np.mean([e.low <= truth <= e.high for e in estimates])
        result[name] = {
            "bias": float(values.mean() - truth),
            "bias_error": float(values.std(ddof=1) / np.sqrt(replications)),
            "sd": float(values.std(ddof=1)),
            "rmse": float(np.sqrt(np.mean((values - truth) ** 2))),
            "coverage": float(cover),
        }
    return result


def study(replications: int = 2000) -> dict:
    """``against_the_truth`` over distances at n = 1,000, and over rates with few rewards."""
    return {
        "distance": {
            str(d): against_the_truth(d, replications=replications) for d in (0.0, 0.5, 1.0, 1.3)
        },
        "rate": {
            str(r): against_the_truth(0.5, rate=r, replications=replications, seed=1)
            for r in (0.001, 0.005, 0.02, 0.1, 0.3)
        },
    }


def thompsons_shares(log: BanditLog) -> np.ndarray:
    """How often a log shows each item at each position, ``(3, items)``: an estimated policy."""
    counts = np.zeros((3, log.num_items))
    np.add.at(counts, (log.position, log.item), 1)
    return counts / counts.sum(1, keepdims=True)


def open_bandit_estimates(campaign: str) -> dict:
    """Both directions of one campaign, beside the click rate that the target had itself.

    "uniform from bts": the uniform policy's probabilities are known, and Thompson sampling's
    propensities come with the log. They are Monte Carlo estimates (Saito et al. 2021), see
    ``propensity_grid``. "bts from random": Thompson sampling's probabilities are the shares of
    its own log, so they are estimated, and its week as a whole stands for it.
    """
    random, bts = open_bandit(campaign, "random"), open_bandit(campaign, "bts")
    shares = thompsons_shares(bts)
    uniform = np.full((3, random.num_items), 1 / random.num_items)
    found = {}
    for name, log, own, target in (
        ("uniform from bts", bts, random, uniform),
        ("bts from random", random, bts, shares),
    ):
        pi = target[log.position, log.item]
        q, v = cross_fitted(log.position, log.item, log.click, target)
        rows = {
            "IPS": inverse_propensity_score(log.click, log.propensity, pi),
            "SNIPS": self_normalized_ips(log.click, log.propensity, pi),
            "DR": doubly_robust(log.click, log.propensity, pi, q, v),
        }
        ones = np.ones(len(own.click))
        found[name] = {
            "own": list(inverse_propensity_score(own.click, ones, ones)),
            "clicks": int(log.click.sum()),
            "largest_weight": float((pi / log.propensity).max()),
            **{estimator: list(row) for estimator, row in rows.items()},
            "clips": [
                list(inverse_propensity_score(log.click, log.propensity, pi, clip=c)) for c in CLIPS
            ],
        }
    return found


def own_difference(campaign: str) -> Mean:
    """Click rate of Thompson sampling minus that of the uniform policy, each from its own log.

    Half the width of the 95 % interval takes all rows as independent.
    """
    bts, random = (open_bandit(campaign, policy).click for policy in ("bts", "random"))
    error = np.sqrt(bts.var(ddof=1) / len(bts) + random.var(ddof=1) / len(random))
    return Mean(float(bts.mean() - random.mean()), float(1.96 * error))


def propensity_grid(campaign: str, step: float = 5e-6) -> dict:
    """How many of Thompson sampling's propensities are multiples of ``step``, and the smallest one.

    Returns "rows", "on" (multiples of the step), "equal" (others that are one over the number of
    items), and of the row with the smallest propensity: "row" (in the order of time, from 0),
    "item", "position" (0 left, 1 middle, 2 right), "least" and "second" (the two smallest
    propensities), "others" (further rows of this item at this position) and "same" (the smallest
    propensity of those).
    """
    log = open_bandit(campaign, "bts")
    p = log.propensity
    on = np.abs(p / step - np.rint(p / step)) < 1e-6
    row = int(p.argmin())
    alike = (log.item == log.item[row]) & (log.position == log.position[row])
    alike[row] = False
    return {
        "rows": len(p),
        "on": int(on.sum()),
        "equal": int((~on & np.isclose(p, 1 / log.num_items, rtol=1e-6)).sum()),
        "row": row,
        "item": int(log.item[row]),
        "position": int(log.position[row]),
        "least": float(p[row]),
        "second": float(np.delete(p, row).min()),
        "others": int(alike.sum()),
        "same": float(p[alike].min()),
    }
