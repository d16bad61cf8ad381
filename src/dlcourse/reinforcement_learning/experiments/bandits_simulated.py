"""Bandits on made-up linear rewards, where regret is known exactly (section 122.2b).

A world has K arms with θ_a on the unit sphere of d dimensions; contexts are uniform on the sphere,
rewards are xᵀθ_a plus normal noise. Regret of a step is the best arm's mean minus the chosen
one's. Settings are chosen on worlds of their own (seeds from 1,000).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dlcourse.reinforcement_learning.bandits.linucb import LinUCB
from dlcourse.reinforcement_learning.bandits.ridge_arms import RidgeArms
from dlcourse.reinforcement_learning.bandits.sliding_window import SlidingWindowLinUCB
from dlcourse.reinforcement_learning.bandits.thompson import LinearThompsonSampling
from dlcourse.reinforcement_learning.bandits.ties import random_argmax

ARMS, DIM, NOISE = 10, 5, 0.5
STEPS = 10_000
#: Seeds that choose settings, and seeds that are reported.
TUNING = range(1000, 1003)
SEEDS = range(12)
GRIDS = {
    "ε-greedy": (0.01, 0.03, 0.1, 0.3),
    "LinUCB": (0.03, 0.1, 0.3, 1.0, 3.0),
    "Thompson": (0.03, 0.1, 0.3, 1.0, 3.0),
}
DELAYS = (0, 10, 100, 1000)
WINDOWS = (250, 500, 1000, 2000)
CHANGE = 3000  # steps between two changes of all θ


class EpsilonGreedy(RidgeArms):
    """The best estimate; with probability ε any arm. The baseline of the section."""

    def __init__(self, num_arms: int, context_dim: int, epsilon: float, *, seed: int) -> None:
        super().__init__(num_arms, context_dim, seed=seed)
        self.epsilon = epsilon

    def scores(self, context):
        return self.mean_and_width(context)[0]

    def select(self, context) -> int:
        if self.rng.random() < self.epsilon:
            return int(self.rng.integers(self.num_arms))
        return random_argmax(self.scores(context), self.rng)


class Uniform(RidgeArms):
    """Any arm, whatever was seen."""

    def select(self, context) -> int:
        return int(self.rng.integers(self.num_arms))

    def update(self, context, arm, reward) -> None:
        pass


def agent_of(kind: str, setting: float, num_arms: int, dim: int, seed: int) -> RidgeArms:
    """A fresh bandit: "random", "greedy", "ε-greedy", "LinUCB" or "Thompson"."""
    if kind == "random":
        return Uniform(num_arms, dim, seed=seed)
    if kind == "greedy":
        return LinUCB(num_arms, dim, 0.0, seed=seed)
    if kind == "ε-greedy":
        return EpsilonGreedy(num_arms, dim, setting, seed=seed)
    if kind == "LinUCB":
        return LinUCB(num_arms, dim, setting, seed=seed)
    return LinearThompsonSampling(num_arms, dim, setting, seed=seed)


def on_sphere(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """``(n, d)``, uniform on the unit sphere."""
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def run(
    make: Callable[[int], RidgeArms],
    seed: int,
    steps: int = STEPS,
    *,
    delay: int = 0,
    batch: int = 1,
    change: int | None = None,
    arms: int = ARMS,
    dim: int = DIM,
) -> np.ndarray:
    """Cumulative regret ``(steps,)`` of one bandit in one world.

    Args:
        make: from a seed to a fresh bandit.
        seed: of the world; contexts and noise of equal seeds are equal for all bandits.
        delay: a reward is known this many steps after its choice.
        batch: rewards are learned together, whenever this many are there.
        change: all θ are drawn anew every so many steps; None: never.
    """
    rng = np.random.default_rng([122, seed])
    contexts = on_sphere(rng, steps, dim)
    noise = NOISE * rng.standard_normal(steps)
    thetas = [on_sphere(rng, arms, dim) for _ in range(1 if change is None else -(-steps // change))]
    agent = make(seed)
    waiting: deque = deque()
    regret = np.empty(steps)
    for t in range(steps):
        x = contexts[t]
        means = thetas[0 if change is None else t // change] @ x  # (K,)
        arm = agent.select(x)
        regret[t] = means.max() - means[arm]
        waiting.append((x, arm, means[arm] + noise[t]))
        due = len(waiting) - delay
        if due >= batch:
            if due == 1:
                agent.update(*waiting.popleft())
            else:
                rows = [waiting.popleft() for _ in range(due)]
                agent.update_batch(*(np.array(column) for column in zip(*rows, strict=True)))
    return regret.cumsum()


def choose(steps: int = STEPS, seeds: Sequence[int] = TUNING) -> dict[str, dict[str, float]]:
    """Mean final regret of each setting of each kind, on worlds for tuning."""
    return {
        kind: {
            str(setting): float(
                np.mean([
                    run(lambda s, k=kind, v=setting: agent_of(k, v, ARMS, DIM, s), seed, steps)[-1]
                    for seed in seeds
                ])
            )
            for setting in grid
        }
        for kind, grid in GRIDS.items()
    }


def best(table: Mapping[str, float]) -> float:
    """The setting with the least regret."""
    return float(min(table, key=table.__getitem__))


def regret_curves(steps: int = STEPS, seeds: Sequence[int] = SEEDS, tuning=TUNING) -> dict:
    """Regret over time of each kind at its best setting.

    Returns "tuned" (final regret of each setting), "settings", "times" ``(n,)`` and "curves":
    kind to one list a seed of regret at those times.
    """
    tuned = choose(steps // 2, tuning)
    settings = {kind: best(table) for kind, table in tuned.items()}
    times = np.unique(np.geomspace(10, steps, 40).astype(int))
    curves = {
        kind: [
            run(
                lambda s, k=kind: agent_of(k, settings.get(k, 0.0), ARMS, DIM, s), seed, steps
            )[times - 1].tolist()
            for seed in seeds
        ]
        for kind in ("random", "greedy", *GRIDS)
    }
    return {"tuned": tuned, "settings": settings, "times": times.tolist(), "curves": curves}


def slope(times: Sequence[float], regret: Sequence[float]) -> float:
    """Exponent of regret ~ tˢ over the last tenth part of the steps to the end (a decade)."""
    t, r = np.asarray(times, dtype=float), np.asarray(regret, dtype=float)
    late = t >= t[-1] / 10
    return float(np.polyfit(np.log(t[late]), np.log(np.maximum(r[late], 1e-12)), 1)[0])


def delayed_rewards(
    settings: Mapping[str, float], steps: int = 3000, seeds: Sequence[int] = range(10)
) -> dict:
    """Final regret by kind, way ("delay" or "batch") and size: one value a seed."""
    found: dict = {}
    for kind in ("LinUCB", "Thompson"):
        for way in ("delay", "batch"):
            for size in DELAYS:
                how = {"delay": size} if way == "delay" else {"batch": max(1, size)}
                found.setdefault(kind, {}).setdefault(way, {})[str(size)] = [
                    run(
                        lambda s, k=kind: agent_of(k, settings[k], ARMS, DIM, s),
                        seed, steps, **how,
                    )[-1]
                    for seed in seeds
                ]  # fmt: skip
    return found


def drifting(
    alphas: Sequence[float] = (0.1, 0.3, 1.0),
    windows: Sequence[int] = WINDOWS,
    steps: int = 3 * CHANGE,
    change: int = CHANGE,
    seeds: Sequence[int] = range(12),
    tuning: Sequence[int] = range(1000, 1003),
) -> dict:
    """LinUCB and its sliding-window form where θ changes, and where it does not.

    Both forms have the same values of α to choose from, the window as well, on worlds that change.
    Returns the settings, "times", and "curves": "changes" or "stays", form, one list a seed.
    """

    def forgets(alpha, window):
        return lambda s: SlidingWindowLinUCB(ARMS, DIM, window, alpha, seed=s)

    def remembers(alpha):
        return lambda s: LinUCB(ARMS, DIM, alpha, seed=s)

    def regret(make):
        return float(np.mean([run(make, seed, steps, change=change)[-1] for seed in tuning]))

    plain = {str(a): regret(remembers(a)) for a in alphas}
    window = {f"{a} {w}": regret(forgets(a, w)) for a in alphas for w in windows}
    a, w = min(window, key=window.__getitem__).split()
    forms = {"remembers all": remembers(best(plain)), "window": forgets(float(a), int(w))}
    times = np.arange(steps // 45, steps + 1, steps // 45)
    curves = {
        world: {
            form: [run(make, s, steps, change=every)[times - 1].tolist() for s in seeds]
            for form, make in forms.items()
        }
        for world, every in (("changes", change), ("stays", None))
    }
    return {
        "tuned": {"remembers all": plain, "window": window},
        "alpha": best(plain), "window_alpha": float(a), "window": int(w),
        "times": times.tolist(), "curves": curves,
    }  # fmt: skip
