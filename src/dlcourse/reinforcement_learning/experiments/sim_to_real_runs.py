"""122.1b: what the recorded cells run."""

from __future__ import annotations

import copy

import numpy as np
import torch

from dlcourse.reinforcement_learning.experiments import sim_to_real_training as training
from dlcourse.reinforcement_learning.sim_to_real.identification import Episode, SystemIdentifier
from dlcourse.reinforcement_learning.sim_to_real.pendulum_batch import FRAME_SKIP, PendulumBatch
from dlcourse.reinforcement_learning.sim_to_real.randomization import widened

WIDTHS = (0, 1, 2)
#: two "real" systems: one within the ranges of width 1, one with a gear and a damping outside
REALS = {
    "inside": {"mass:pole": 2.0, "gear": 1.8, "damping": 0.5, "latency": 1},
    "outside": {"mass:pole": 0.8, "gear": 4.0, "damping": 0.15, "latency": 1},
}
BOUNDS = {"mass:pole": (0.1, 10.0), "gear": (0.1, 10.0), "damping": (0.05, 10.0), "latency": (0, 3)}
SENSOR = 0.002  # deviation of the sensors' error in the identification, in m, rad, m/s, rad/s
SECONDS, CONTROL_STEP = 5.0, 0.04


def contest(steps: int = training.STEPS, seeds=training.SEEDS) -> dict:
    """Train at each width; the mean episode length on a map of systems, and on the real ones."""
    torch.set_num_threads(1)
    maps, reals, curves = {}, {}, {}
    for width in WIDTHS:
        key, ranges = str(width), widened(training.RANGES, width)
        maps[key], reals[key], curves[key] = [], [], []
        for seed in seeds:
            agent = training.new_agent(seed)
            curve = training.train(agent, ranges, seed, steps)
            curves[key].append([round(x, 1) for x in curve])
            maps[key].append(training.map_of(agent, "gear", training.GEARS))
            scores = training.lengths_on(agent, list(REALS.values()), episodes=10)
            reals[key].append(dict(zip(REALS, scores.tolist(), strict=True)))
    return {
        "maps": maps,
        "reals": reals,
        "curves": curves,
        "gears": list(training.GEARS),
        "latencies": list(training.LATENCIES),
        "steps": steps,
    }


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
    """Parameters of the real system from five seconds of it."""
    batch = PendulumBatch(1, seed=0)
    identifier = SystemIdentifier(batch.model, BOUNDS, frame_skip=FRAME_SKIP)
    return identifier.fit(real_episodes(agent, parameters, seed))


def adaptation(steps: int = training.STEPS, seeds=training.SEEDS) -> dict:
    """Three quarters of the steps on the nominal model, the last quarter on four things.

    More of the nominal model; the identified model of each real system; the true one.
    """
    torch.set_num_threads(1)
    last = steps // 4
    rows = {name: [] for name in REALS}
    for seed in seeds:
        base = training.new_agent(seed)
        training.train(base, {}, seed, steps - last)
        nominal = copy.deepcopy(base)
        training.train(nominal, {}, seed + 100, last)
        for name, truth in REALS.items():
            found = identify(base, truth, seed)
            row = {
                "estimates": found.parameters,
                "log_error": found.log_error,
                "residual_of_latency": {str(k): v for k, v in found.residual_of_latency.items()},
                "before": float(training.lengths_on(base, [truth], episodes=10)[0]),
                "nominal": float(training.lengths_on(nominal, [truth], episodes=10)[0]),
            }
            for how, parameters in (("identified", found.parameters), ("truth", truth)):
                agent = copy.deepcopy(base)
                exact = {k: (v, v) for k, v in parameters.items()}
                training.train(agent, exact, seed + 100, last)
                row[how] = float(training.lengths_on(agent, [truth], episodes=10)[0])
            rows[name].append(row)
    return {"rows": rows, "steps": steps, "last": last}
