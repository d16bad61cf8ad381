"""122.1b: linear controllers, as data gatherers and as the baselines of the contest."""

from __future__ import annotations

import numpy as np
import torch

from dlcourse.reinforcement_learning.experiments import sim_to_real_training as training
from dlcourse.reinforcement_learning.experiments.sim_to_real_runs import (
    BOUNDS,
    CONTROL_STEP,
    NOMINAL,
    REALS,
    SECONDS,
    SENSOR,
    score,
)
from dlcourse.reinforcement_learning.sim_to_real.identification import Episode, SystemIdentifier
from dlcourse.reinforcement_learning.sim_to_real.pendulum_batch import (
    FRAME_SKIP,
    MAX_STEPS,
    PendulumBatch,
)

GAIN = np.array([0.2, 4.0, 0.3, 0.5])  # for position, angle and their velocities
#: where the search draws gains, log-uniform
GAINS = np.array([(0.02, 2.0), (1.0, 30.0), (0.02, 2.0), (0.1, 5.0)])
#: the real system of the page's identification
TRUTH = {"mass:pole": 2.0, "gear": 0.6, "damping": 2.0, "latency": 1}


def linear(state: np.ndarray, gain: np.ndarray = GAIN) -> np.ndarray:
    """A linear controller: (..., 4) -> (..., 1), within the motor's bounds."""
    action = (np.asarray(state) * gain).sum(-1, keepdims=True)
    return np.clip(action, -3, 3).astype(np.float32)


class LinearAgent:
    """A linear controller where an agent is expected; a gain of zero is the zero action."""

    def __init__(self, gain: np.ndarray) -> None:
        self.gain = np.asarray(gain, float)

    def act(self, obs, deterministic: bool = True):
        return torch.from_numpy(linear(np.asarray(obs), self.gain)), None, None


def five_seconds(parameters, seed: int, noise: float = 0.0, scale: float = 0.3) -> list[Episode]:
    """Transitions under the hand-made controller with some exploration."""
    batch = PendulumBatch(1, seed=seed, parameters=[parameters])
    rng, found = np.random.default_rng(seed), []
    states, actions = [batch.state[0]], []
    steps = round(SECONDS / CONTROL_STEP)
    for t in range(steps):
        action = linear(batch.state) + scale * rng.standard_normal((1, 1)).astype(np.float32)
        action = np.clip(action, -3, 3)
        step = batch.step(action)
        states.append(step.final[0])
        actions.append(action[0])
        if step.terminated[0] or t == steps - 1:
            errors = noise * rng.standard_normal((len(states), 4))
            found.append(Episode(np.array(states) + errors, np.array(actions)))
            states, actions = [batch.state[0]], []
    return found


def coverage(sets: int = 80) -> dict:
    """How often the intervals hold the truth, over data sets of five seconds each.

    For each factor: ``holds``, how many of ``sets`` do; ``deviation``, the standard deviation of
    the logarithms of the estimates; ``error``, the mean standard error that the fits report.
    """
    bounds = {**BOUNDS, "latency": (TRUTH["latency"], TRUTH["latency"])}
    identifier = SystemIdentifier(PendulumBatch(1, seed=0).model, bounds, frame_skip=FRAME_SKIP)
    fits = [identifier.fit(five_seconds(TRUTH, 100 + s, SENSOR)) for s in range(sets)]
    found = {"sets": sets, "holds": {}, "deviation": {}, "error": {}}
    for name in identifier.names:
        inside = [a <= TRUTH[name] <= b for f in fits for a, b in [f.interval(name)]]
        found["holds"][name] = sum(inside)
        found["deviation"][name] = np.std(np.log([f.parameters[name] for f in fits]), ddof=1)
        found["error"][name] = np.mean([f.log_error[name] for f in fits])
    return found


def search(parameters, seed: int, num: int = 400, early: int = 100) -> np.ndarray:
    """The best of ``num`` random gains on a simulator with these parameters, (4,).

    Those that stand for ``early`` steps are tried for 1000; of those that stand longest, the one
    with the smallest mean square of the angle is kept.
    """
    low, high = np.log(GAINS).T
    gains = np.exp(np.random.default_rng(seed).uniform(low, high, (num, 4)))
    lengths, _ = trial(gains, parameters, seed, early)
    gains = gains[lengths == lengths.max()]
    lengths, squares = trial(gains, parameters, seed + 1, MAX_STEPS)
    longest = np.flatnonzero(lengths == lengths.max())
    return gains[longest[np.argmin(squares[longest])]]


def trial(gains: np.ndarray, parameters, seed: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each gain (N, 4): the length of its first episode, and the mean square of its angle."""
    batch = PendulumBatch(len(gains), seed=seed, parameters=[parameters] * len(gains))
    alive, length, squares = np.ones(len(gains), bool), np.zeros(len(gains)), np.zeros(len(gains))
    for _ in range(steps):
        step = batch.step(linear(batch.state, gains))
        length += alive & ~step.terminated
        squares += alive * step.final[:, 1] ** 2
        alive &= ~(step.terminated | step.truncated)
        if not alive.any():
            break
    return length, squares / np.maximum(length, 1)


def baselines(seeds=training.SEEDS, episodes: int = 10, num: int = 400) -> dict:
    """Controllers without a network on the systems of the contest, the map and the nominal system.

    "zero action" and "by hand" need no data and no steps; "linear, identified" is searched on a
    model identified from five seconds under the hand-made controller, "linear, oracle" on the true
    parameters.
    """
    identifier = SystemIdentifier(PendulumBatch(1, seed=0).model, BOUNDS, frame_skip=FRAME_SKIP)
    fixed = {"zero action": LinearAgent(np.zeros(4)), "by hand": LinearAgent(GAIN)}
    found = {
        "map_means": {
            how: float(np.mean(training.map_of(agent, "gear", training.GEARS)))
            for how, agent in fixed.items()
        },
        "on_nominal": {how: score(agent, NOMINAL, episodes) for how, agent in fixed.items()},
        "reals": {},
        "gains": {},
    }
    for name, truth in REALS.items():
        rows = {how: [score(agent, truth, episodes)] for how, agent in fixed.items()}
        found["gains"][name] = {}
        for seed in seeds:
            estimate = identifier.fit(five_seconds(truth, seed, SENSOR)).parameters
            for how, model in (("linear, identified", estimate), ("linear, oracle", truth)):
                gain = search(model, seed, num)
                rows.setdefault(how, []).append(score(LinearAgent(gain), truth, episodes))
                found["gains"][name].setdefault(how, []).append(gain.tolist())
        found["reals"][name] = rows
    return found
