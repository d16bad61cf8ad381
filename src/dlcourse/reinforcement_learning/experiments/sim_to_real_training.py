"""122.1b: PPO on many inverted pendulums, and what its policies get on others."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from dlcourse.reinforcement_learning.parallel_environments.ppo import PPO, Rollout
from dlcourse.reinforcement_learning.sim_to_real.pendulum_batch import MAX_STEPS, PendulumBatch

#: what is randomised at width 1
RANGES = {
    "mass:pole": (0.5, 3.0),
    "gear": (0.4, 2.5),
    "damping": (0.2, 3.0),
    "latency": (0, 2),
}
SEEDS = (0, 1, 2)
NUM = 128  # pendulums at once
LOG_STD = -0.5  # log deviation of a new policy's actions
HORIZON = 32  # control steps of each between two updates


def new_agent(seed: int) -> PPO:
    """A PPO agent with the settings of every training of this section."""
    return PPO(4, 1, epochs=5, minibatches=8, lr=1e-3, log_std=LOG_STD, normalize_rewards=True,
               seed=seed)  # fmt: skip


def train(agent: PPO, ranges, seed: int, steps: int, num: int = NUM, horizon: int = HORIZON):
    """Train on ``steps`` control steps of pendulums with these ranges; returns mean lengths.

    The list has the mean length of the episodes that ended in each iteration (NaN for none).
    """
    batch, lengths = PendulumBatch(num, ranges, seed=seed), []
    obs, age = torch.tensor(batch.observe(), dtype=torch.float32), np.zeros(num)
    for _ in range(max(steps // (num * horizon), 1)):
        rows, ended = [], []
        for _ in range(horizon):
            action, log_prob, value = agent.act(obs)
            step = batch.step(action.numpy())
            if rows:
                rows[-1][5][~was_over] = value[~was_over]  # the state has not changed since
            was_over = torch.tensor(step.terminated | step.truncated)
            next_value = torch.zeros(num)
            if step.truncated.any():  # cut off: what would have come counts
                cut = torch.tensor(step.truncated)
                next_value[cut] = agent.value(torch.tensor(step.final, dtype=torch.float32)[cut])
            rows.append((
                obs, action, log_prob, torch.tensor(step.reward, dtype=torch.float32), value,
                next_value, torch.tensor(step.terminated), torch.tensor(step.truncated),
            ))  # fmt: skip
            obs, age = torch.tensor(step.observation, dtype=torch.float32), age + 1
            ended += age[was_over.numpy()].tolist()
            age[was_over.numpy()] = 0
        rows[-1][5][~was_over] = agent.value(obs)[~was_over]
        agent.update(Rollout(*(torch.stack(column) for column in zip(*rows, strict=True))))
        lengths.append(float(np.mean(ended)) if ended else float("nan"))
    return lengths


def lengths_on(agent: PPO, parameters: list[dict], seed: int = 10_000, episodes: int = 2):
    """Mean length of the first episode of the agent's mean action on each system, (len,).

    Each system gets ``episodes`` starts; an episode has 1000 steps at most.
    """
    systems = [p for p in parameters for _ in range(episodes)]
    batch = PendulumBatch(len(systems), seed=seed, parameters=systems)
    obs, alive = batch.observe(), np.ones(len(systems), bool)
    length = np.zeros(len(systems))
    for _ in range(MAX_STEPS):
        action, _, _ = agent.act(torch.tensor(obs, dtype=torch.float32), deterministic=True)
        step = batch.step(action.numpy())
        length += alive & (step.reward > 0)
        alive &= ~(step.terminated | step.truncated)
        obs = step.observation
        if not alive.any():
            break
    return length.reshape(-1, episodes).mean(1)


GEARS = (0.16, 0.3, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0, 6.25)
LATENCIES = (0, 1, 2, 3, 4)


def grid(name: str, values) -> list[dict]:
    """All systems of one factor by the latency, latency first."""
    return [{name: v, "latency": k} for k, v in itertools.product(LATENCIES, values)]


def map_of(agent: PPO, name: str, values) -> list[list[float]]:
    """Mean lengths: a row for each latency, a column for each value."""
    return lengths_on(agent, grid(name, values)).reshape(len(LATENCIES), -1).round(1).tolist()
