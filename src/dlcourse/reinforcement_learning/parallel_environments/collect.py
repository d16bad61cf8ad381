"""Acting in a batch of environments: for learning, and for a fair score. Chapter 122, section 1c."""

import torch
from torch import Tensor

from dlcourse.reinforcement_learning.parallel_environments.environment import ParallelEnvironment
from dlcourse.reinforcement_learning.parallel_environments.ppo import PPO, Rollout


@torch.no_grad()
def collect_rollout(
    agent: PPO, env: ParallelEnvironment, obs: Tensor, steps: int
) -> tuple[Rollout, Tensor]:
    """``steps`` steps of all environments under the agent's policy, from observations ``obs`` (N, D).

    Returns the rollout, (steps, N), and the observations to go on from: environments are not reset
    between rollouts, so episodes may be longer than a rollout.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    seen = []
    for _ in range(steps):
        action, log_prob, value = agent.act(obs)
        step = env.step(action)
        seen.append((obs, action, log_prob, step.reward, value, step.reached,
                     step.terminated, step.truncated))  # fmt: skip
        obs = step.obs
    observations, actions, log_probs, rewards, values, reached, terminated, truncated = (
        torch.stack(x) for x in zip(*seen, strict=True)
    )
    next_values = agent.value(reached)  # (steps, N), all in one call
    return Rollout(
        observations, actions, log_probs, rewards, values, next_values, terminated, truncated
    ), obs


@torch.no_grad()
def first_episode_returns(
    agent: PPO, env: ParallelEnvironment, seed: int, *, deterministic: bool = True
) -> Tensor:
    """The return of one whole episode in each environment, (N,), undiscounted.

    "The last hundred episodes that ended" flatters or slanders a policy when environments run side
    by side: short episodes end first. So each environment counts once, however long it takes.
    """
    obs = env.reset(seed)
    total = torch.zeros(env.num_envs, device=obs.device)
    running = torch.ones(env.num_envs, dtype=torch.bool, device=obs.device)
    while running.any():
        step = env.step(agent.act(obs, deterministic)[0])
        total += step.reward * running
        running &= ~(step.terminated | step.truncated)
        obs = step.obs
    return total
