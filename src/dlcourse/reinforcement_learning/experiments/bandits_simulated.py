"""Bandits on made-up linear rewards, where regret is known exactly (section 122.2b).

A world has K arms with θ_a on the unit sphere of d dimensions; contexts are uniform on the sphere,
rewards are xᵀθ_a plus normal noise. Regret of a step is the best arm's mean minus the chosen
one's. Settings are chosen on worlds of their own (seeds from 1,000).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dlcourse.reinforcement_learning.bandits.discounted import DiscountedLinUCB
from dlcourse.reinforcement_learning.bandits.hybrid import HybridLinUCB
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
#: As many settings for each kind, tried at the length that is reported.
GRIDS = {
    "ε-greedy": (0.003, 0.01, 0.03, 0.1, 0.3),
    "LinUCB": (0.1, 0.3, 1.0, 3.0, 10.0),
    "Thompson": (0.03, 0.1, 0.3, 1.0, 3.0),
}
DELAYS = (0, 10, 100, 1000)
CHANGE = 3000  # steps between two changes of all θ
#: Twelve settings for each form where rewards change: α, or four α by three lengths of memory.
ALPHAS = (0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 14.0, 20.0, 30.0, 50.0)
FORGETTING_ALPHAS = (0.1, 0.3, 1.0, 3.0)
WINDOWS = (250, 500, 1000)
MEMORIES = (125, 250, 500)  # 1 / (1 − γ)


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
    tuned = choose(steps, tuning)
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
    alphas: Sequence[float] = ALPHAS,
    forgetting_alphas: Sequence[float] = FORGETTING_ALPHAS,
    windows: Sequence[int] = WINDOWS,
    memories: Sequence[int] = MEMORIES,
    steps: int = 3 * CHANGE,
    change: int = CHANGE,
    seeds: Sequence[int] = SEEDS,
    tuning: Sequence[int] = TUNING,
) -> dict:
    """LinUCB, its sliding-window form and its discounted form where θ changes, and where it stays.

    Each form has as many settings to choose from, on changing worlds for tuning. Where θ stays, the
    setting is still the one that was best where it changes; so "same α" is there as well: LinUCB
    with the window's α, which differs from the window by what it remembers only.

    Returns "tuned" (form to final regret of each setting), "settings" (form to its parts as text),
    "times", and "curves": "changes" or "stays", form, one list a seed.
    """
    makers: dict[str, Callable] = {
        "remembers all": lambda a: lambda s: LinUCB(ARMS, DIM, float(a), seed=s),
        "window": lambda a, w: (
            lambda s: SlidingWindowLinUCB(ARMS, DIM, int(w), float(a), seed=s)
        ),
        "discount": lambda a, n: (
            lambda s: DiscountedLinUCB(ARMS, DIM, 1 - 1 / int(n), float(a), seed=s)
        ),
    }  # fmt: skip
    grids = {
        "remembers all": [(str(a),) for a in alphas],
        "window": [(str(a), str(w)) for a in forgetting_alphas for w in windows],
        "discount": [(str(a), str(n)) for a in forgetting_alphas for n in memories],
    }
    tuned = {
        form: {
            " ".join(parts): float(
                np.mean([
                    run(makers[form](*parts), seed, steps, change=change)[-1] for seed in tuning
                ])
            )
            for parts in grid
        }
        for form, grid in grids.items()
    }  # fmt: skip
    settings = {form: min(table, key=table.__getitem__).split() for form, table in tuned.items()}
    forms = {form: makers[form](*parts) for form, parts in settings.items()}
    times = np.arange(steps // 45, steps + 1, steps // 45)

    def curve(make, every):
        return [run(make, s, steps, change=every)[times - 1].tolist() for s in seeds]

    curves = {
        world: {form: curve(make, every) for form, make in forms.items()}
        for world, every in (("changes", change), ("stays", None))
    }
    curves["stays"]["same α"] = curve(makers["remembers all"](settings["window"][0]), None)
    return {"tuned": tuned, "settings": settings, "times": times.tolist(), "curves": curves}


#: Worlds whose items have features: arms, features of an item, steps.
ITEMS, ITEM_DIM, ITEM_STEPS = 30, 3, 3000
SHARES = (0.0, 0.5, 0.9, 1.0)
ITEM_GRIDS = {
    "ε-greedy": (0.01, 0.03, 0.1, 0.3, 1.0),
    "LinUCB": (0.1, 0.3, 1.0, 3.0, 10.0),
    "Thompson": (0.03, 0.1, 0.3, 1.0, 3.0),
    "hybrid": (0.03, 0.1, 0.3, 1.0, 3.0),
}


def run_items(
    kind: str, setting: float, seed: int, share: float, steps: int = ITEM_STEPS
) -> np.ndarray:
    """Cumulative regret ``(steps,)`` where items have features f_a of a known world.

    Item a pays xᵀθ_a with θ_a = √share · M f_a + √(1 − share) · its own direction, plus noise: all
    parts of unit length in the mean. At share 1 the items' features say all that is to be known of
    them, at 0 nothing. "hybrid" also sees z = x ⊗ f_a, to which xᵀM f_a is linear; the others see x
    only, and can learn each θ_a from it.
    """
    rng = np.random.default_rng([1222, seed])
    contexts = on_sphere(rng, steps, DIM)
    noise = NOISE * rng.standard_normal(steps)
    features = on_sphere(rng, ITEMS, ITEM_DIM)
    common = features @ rng.standard_normal((ITEM_DIM, DIM)) / np.sqrt(DIM)  # M f_a  (K, d)
    theta = np.sqrt(share) * common + np.sqrt(1 - share) * on_sphere(rng, ITEMS, DIM)
    hybrid = HybridLinUCB(ITEMS, DIM, DIM * ITEM_DIM, setting, seed=seed)
    agent = agent_of(kind, setting, ITEMS, DIM, seed)
    regret = np.empty(steps)
    for t, x in enumerate(contexts):
        means = theta @ x
        if kind == "hybrid":
            z = (x[None, :, None] * features[:, None, :]).reshape(ITEMS, -1)  # x ⊗ f_a  (K, k)
            arm = hybrid.select(x, z)
            hybrid.update(x, z[arm], arm, means[arm] + noise[t])
        else:
            arm = agent.select(x)
            agent.update(x, arm, means[arm] + noise[t])
        regret[t] = means.max() - means[arm]
    return regret.cumsum()


def shared_features(
    steps: int = ITEM_STEPS,
    seeds: Sequence[int] = SEEDS,
    tuning: Sequence[int] = TUNING,
    shares: Sequence[float] = SHARES,
) -> dict:
    """Final regret of each kind by the share of what items have in common.

    Each kind is tuned for each share, at the same length on worlds of their own. Returns "tuned",
    "settings" and "regret": share (as text) to kind.
    """
    found: dict = {"tuned": {}, "settings": {}, "regret": {}}
    for share in shares:
        tuned = {
            kind: {
                str(v): float(np.mean([run_items(kind, v, s, share, steps)[-1] for s in tuning]))
                for v in grid
            }
            for kind, grid in ITEM_GRIDS.items()
        }
        settings = {kind: best(table) for kind, table in tuned.items()}
        found["tuned"][str(share)] = tuned
        found["settings"][str(share)] = settings
        found["regret"][str(share)] = {
            kind: [float(run_items(kind, v, s, share, steps)[-1]) for s in seeds]
            for kind, v in settings.items()
        }
    return found


def at_an_edge(table: Mapping[str, float]) -> bool:
    """Whether the setting with the least value is the smallest or the largest of its grid.

    Settings of several parts ("0.3 500") are at an edge if one part is.
    """
    rows = [[float(part) for part in key.split()] for key in table]
    chosen = [float(part) for part in min(table, key=table.__getitem__).split()]
    return any(
        part in (min(values), max(values))
        for part, values in zip(chosen, zip(*rows, strict=True), strict=True)
    )
