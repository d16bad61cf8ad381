"""Digits as a bandit: name a digit, and learn only whether that was right (section 122.2b)."""

from __future__ import annotations

import numpy as np

from dlcourse.reinforcement_learning.bandits.linucb import LinUCB
from dlcourse.reinforcement_learning.bandits.ridge_arms import RidgeArms

from .bandits_simulated import agent_of

#: Five settings for each kind, wide enough that none is best at an end.
GRIDS = {
    "ε-greedy": (0.03, 0.1, 0.2, 0.3, 0.5),
    "LinUCB": (0.1, 0.3, 1.0, 3.0, 10.0),
    "Thompson": (0.03, 0.1, 0.3, 1.0, 3.0),
}
SHOWN_ALPHAS = (0.0, 0.1, 0.3, 1.0, 3.0)


def digit_contexts() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits as unit vectors ``(1797, 64)``, and their labels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / np.linalg.norm(x, axis=1, keepdims=True), y


def parts() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """600 digits to choose settings on, and the other 1,197 to report on."""
    x, y = digit_contexts()
    order = np.random.default_rng(122).permutation(len(x))
    choose, report = order[:600], order[600:]
    return (x[choose], y[choose]), (x[report], y[report])


def play(agent: RidgeArms, x: np.ndarray, y: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Rewards ``(n,)``, 1 where the arm is the digit's name, in this order of the digits."""
    rewards = np.empty(len(order))
    for t, i in enumerate(order):
        arm = agent.select(x[i])
        rewards[t] = float(arm == y[i])
        agent.update(x[i], arm, rewards[t])
    return rewards


def told_all(x: np.ndarray, y: np.ndarray, order: np.ndarray, seed: int) -> np.ndarray:
    """The same ridge regressions, told after each choice what every arm would have paid."""
    agent = LinUCB(10, x.shape[1], 0.0, seed=seed)
    rewards = np.empty(len(order))
    for t, i in enumerate(order):
        rewards[t] = float(agent.select(x[i]) == y[i])
        agent.update_batch(np.tile(x[i], (10, 1)), np.arange(10), np.arange(10) == y[i])
    return rewards


def contest(orders: int = 20, tuning_orders: int = 5) -> dict:
    """Mean reward of each kind, its setting chosen on other digits.

    Returns "tuned", "settings", "scores" (kind to one mean a order), "late" (mean of the last 300
    steps), "alphas" (LinUCB's α to one mean an order) and "curves" (mean of 50 steps each).
    """
    (x0, y0), (x1, y1) = parts()

    def order_of(n: int, seed: int) -> np.ndarray:
        return np.random.default_rng([122, seed]).permutation(n)

    def mean_reward(kind: str, setting: float, x, y, seed: int) -> np.ndarray:
        return play(agent_of(kind, setting, 10, 64, seed), x, y, order_of(len(y), seed))

    tuned = {
        kind: {
            str(v): float(
                np.mean([mean_reward(kind, v, x0, y0, 500 + s) for s in range(tuning_orders)])
            )
            for v in grid
        }
        for kind, grid in GRIDS.items()
    }
    settings = {kind: float(max(t, key=t.__getitem__)) for kind, t in tuned.items()}
    runs = {
        kind: [mean_reward(kind, settings.get(kind, 0.0), x1, y1, s) for s in range(orders)]
        for kind in ("random", "greedy", *GRIDS)
    }
    known = {0.0: runs["greedy"], settings["LinUCB"]: runs["LinUCB"]}  # need not be played again
    runs["told all"] = [told_all(x1, y1, order_of(len(y1), s), s) for s in range(orders)]
    n = len(y1) // 50 * 50
    return {
        "tuned": tuned,
        "settings": settings,
        "scores": {kind: [float(r.mean()) for r in rows] for kind, rows in runs.items()},
        "late": {kind: [float(r[-300:].mean()) for r in rows] for kind, rows in runs.items()},
        "alphas": {
            str(a): [
                float(r.mean())
                for r in known.get(a)
                or [mean_reward("LinUCB", a, x1, y1, s) for s in range(orders)]
            ]
            for a in SHOWN_ALPHAS
        },
        "curves": {
            kind: np.mean([r[:n].reshape(-1, 50).mean(1) for r in rows], 0).tolist()
            for kind, rows in runs.items()
        },
    }
