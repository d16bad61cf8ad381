"""Does the critic believe too much? Q against the return that follows (section 122.1a)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from .td3 import TD3
from .training import bounds_of, to_bounds


class Belief(NamedTuple):
    """For each state visited: what the first critic says, and the discounted return, ``(N,)``."""

    q: np.ndarray
    returned: np.ndarray


@torch.no_grad()
def q_against_return(
    agent: TD3, env: Any, episodes: int, *, seed: int, states: int = 50
) -> Belief:
    """Compare Q(s, π(s)) with the Monte-Carlo return of π, as Fujimoto et al. (2018) figure 1.

    Args:
        agent: deterministic: a SAC critic also counts entropy, which a return does not.
        env: a single environment whose time limit is much longer than ``states`` + 1/(1 − γ)
            steps: what lies after the limit is missing in the return. An episode that terminates
            earlier is complete.
        states: how many states from the start of each episode are compared.

    Raises ValueError where a truncated episode leaves a weight γ^k > 0.02 behind.
    """
    low, high = bounds_of(env.action_space)
    q, returned = [], []
    for k in range(episodes):
        obs, _ = env.reset(seed=seed + k)
        seen, actions, rewards, over = [], [], [], False
        while not over:
            action = agent.act(obs, deterministic=True)
            seen.append(obs)
            actions.append(action)
            obs, reward, terminated, truncated, _ = env.step(to_bounds(action, low, high))
            rewards.append(float(reward))
            over = terminated or truncated
        if not terminated and agent.gamma ** max(len(rewards) - states, 0) > 0.02:
            raise ValueError(
                f"the time limit ({len(rewards)} steps) cuts off returns of the first {states} "
                "states: make the environment with a larger max_episode_steps"
            )
        total = 0.0
        discounted = np.zeros(len(rewards))
        for t in range(len(rewards) - 1, -1, -1):
            discounted[t] = total = rewards[t] + agent.gamma * total
        kept = slice(0, states)
        pair = (torch.as_tensor(np.array(x[kept]), dtype=torch.float32) for x in (seen, actions))
        q.append(agent.critics(*pair)[0].numpy())
        returned.append(discounted[kept])
    return Belief(np.concatenate(q), np.concatenate(returned))
