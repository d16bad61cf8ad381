"""122.1b: what the recorded cell runs."""

from __future__ import annotations

import copy
import statistics

import numpy as np
import torch

from dlcourse.reinforcement_learning.experiments import sim_to_real_training as training
from dlcourse.reinforcement_learning.sim_to_real.identification import Episode, SystemIdentifier
from dlcourse.reinforcement_learning.sim_to_real.pendulum_batch import FRAME_SKIP, PendulumBatch
from dlcourse.reinforcement_learning.sim_to_real.randomization import widened

WIDTHS = (0, 1, 2)
#: Two "real" systems: one within the ranges of width 1; one with gear and latency outside them. The
#: second was chosen because an agent trained on its true parameters, with seed 50, holds the pole.
REALS = {
    "inside": {"mass:pole": 1.6, "gear": 2.0, "damping": 0.4, "latency": 1},
    "outside": {"mass:pole": 0.7, "gear": 0.3, "damping": 0.3, "latency": 3},
}
NOMINAL = {"mass:pole": 1.0, "gear": 1.0, "damping": 1.0, "latency": 0}
BOUNDS = {"mass:pole": (0.1, 10.0), "gear": (0.1, 10.0), "damping": (0.05, 10.0), "latency": (0, 4)}
SENSOR = 0.002  # deviation of the sensors' error in the identification, in m, rad, m/s, rad/s
SECONDS, CONTROL_STEP = 5.0, 0.04
STEPS = 81_920  # control steps of a training in this contest


def real_episodes(agent, parameters, seed: int, steps: int = round(SECONDS / CONTROL_STEP)):
    """What an agent with its exploration noise meets on the real system, as the sensors say it."""
    batch = PendulumBatch(1, seed=seed, parameters=[{**parameters, "noise": SENSOR}])
    obs, found = batch.observe(), []
    states, actions = [obs[0]], []
    for t in range(steps):
        action, _, _ = agent.act(torch.tensor(obs, dtype=torch.float32))
        action = action.clamp(-3, 3).numpy()
        step = batch.step(action)
        states.append(step.final[0])
        actions.append(action[0])
        obs = step.observation
        if step.terminated[0] or step.truncated[0] or t == steps - 1:
            found.append(Episode(np.array(states), np.array(actions)))
            states, actions = [obs[0]], []
    return found


def identify(agent, parameters, seed: int):
    """Parameters of the real system from five seconds of it, and how many episodes these were."""
    batch = PendulumBatch(1, seed=0)
    identifier = SystemIdentifier(batch.model, BOUNDS, frame_skip=FRAME_SKIP)
    episodes = real_episodes(agent, parameters, seed)
    return identifier.fit(episodes), len(episodes)


def around(found) -> dict[str, tuple[float, float]]:
    """The identified intervals as ranges to randomise over, within the bounds; latency as found."""
    ranges = {"latency": (found.parameters["latency"], found.parameters["latency"])}
    for name in found.names:
        low, high = found.interval(name)
        ranges[name] = (max(low, BOUNDS[name][0]), min(high, BOUNDS[name][1]))
    return ranges


def exactly(parameters) -> dict[str, tuple[float, float]]:
    """Ranges of no width."""
    return {name: (value, value) for name, value in parameters.items()}


def score(agent, parameters, episodes: int = 10) -> float:
    """Mean episode length of the agent's mean action on one system."""
    return float(training.lengths_on(agent, [parameters], episodes=episodes)[0])


def explore_again(agent) -> None:
    """Give the policy the exploration noise of a new one."""
    with torch.no_grad():
        agent.network.log_std.fill_(training.LOG_STD)


def transfer(steps: int = STEPS, seeds=training.SEEDS, episodes: int = 10) -> dict:
    """All ways from the simulator to two real systems, each with the same number of steps.

    Trained at each width of randomisation; on the identified intervals; on the true parameters
    (the oracle); and first half on the nominal model, second half on the identified intervals.
    """
    torch.set_num_threads(1)
    half = steps // 2
    maps, on_nominal, curves = {}, {}, {}
    reals = {name: {} for name in REALS}
    estimates = {name: [] for name in REALS}
    halfway = []

    def keep_scores(how: str, agent, names=tuple(REALS)):
        for name in names:
            reals[name].setdefault(how, []).append(score(agent, REALS[name], episodes))

    for width in WIDTHS:
        key, ranges = str(width), widened(training.RANGES, width)
        maps[key], on_nominal[key], curves[key] = [], [], []
        for seed in seeds:
            agent = training.new_agent(seed)
            curve = training.train(agent, ranges, seed, half)
            first = score(agent, NOMINAL, episodes)
            if width == 0:
                halfway.append(copy.deepcopy(agent))
            curve += training.train(agent, ranges, seed + 100, steps - half)
            curves[key].append([round(x, 1) for x in curve])
            on_nominal[key].append([first, score(agent, NOMINAL, episodes)])
            maps[key].append(training.map_of(agent, "gear", training.GEARS))
            keep_scores(f"width {width}", agent)
    for seed, base in zip(seeds, halfway, strict=True):
        for name, truth in REALS.items():
            found, count = identify(base, truth, seed)
            ranges = around(found)
            estimates[name].append({
                "parameters": found.parameters,
                "intervals": {n: list(found.interval(n)) for n in found.names},
                "residual_of_latency": {str(k): v for k, v in found.residual_of_latency.items()},
                "episodes": count,
            })  # fmt: skip
            tuned = copy.deepcopy(base)
            explore_again(tuned)
            training.train(tuned, ranges, seed + 200, steps - half)
            keep_scores("fine-tuned", tuned, [name])
            for how, spans in (("identified", ranges), ("oracle", exactly(truth))):
                agent = training.new_agent(seed)
                training.train(agent, spans, seed, steps)
                keep_scores(how, agent, [name])
    means = {k: [statistics.mean(x for row in m for x in row) for m in v] for k, v in maps.items()}
    return {
        "maps": maps,
        "map_means": means,
        "on_nominal": on_nominal,
        "curves": curves,
        "reals": reals,
        "estimates": estimates,
        "gears": list(training.GEARS),
        "latencies": list(training.LATENCIES),
        "steps": steps,
    }
