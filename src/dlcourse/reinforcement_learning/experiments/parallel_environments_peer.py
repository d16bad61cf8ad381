"""Our PPO beside stable-baselines3's: same task, steps, seeds and hyperparameters.

Chapter: ``122_reinforcement_learning/1c_parallel_environments`` (its recorded cell ``peer``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlcourse.reinforcement_learning.parallel_environments.cart_pole import CartPole
from dlcourse.reinforcement_learning.parallel_environments.collect import (
    collect_rollout,
    first_episode_returns,
)
from dlcourse.reinforcement_learning.parallel_environments.gymnasium_vector import GymnasiumVector
from dlcourse.reinforcement_learning.parallel_environments.ppo import PPO

__all__ = ["Settings", "compare"]


@dataclass(frozen=True)
class Settings:
    """Of both. The environments' number, the steps of a rollout, and PPO's hyperparameters.

    lr, steps, batch, γ, λ and ε are those that rl-baselines3-zoo lists for CartPole-v1, without
    its annealing of lr and ε and with half its epochs; they were not tuned here.
    """

    num_envs: int = 8
    steps: int = 32
    epochs: int = 10
    batch: int = 256
    lr: float = 1e-3
    gamma: float = 0.98
    lam: float = 0.8
    clip: float = 0.2
    total: int = 30_720
    checks: int = 6
    judges: int = 100

    @property
    def per_check(self) -> int:
        """Updates between two checks."""
        return self.total // (self.checks * self.num_envs * self.steps)


class Ours:
    """PPO of this chapter; nothing that stable-baselines3 leaves out by default."""

    def __init__(self, s: Settings, seed: int, env):
        self.s, self.env = s, env
        self.agent = PPO(
            4,
            2,
            discrete=True,
            lr=s.lr,
            gamma=s.gamma,
            lam=s.lam,
            clip=s.clip,
            epochs=s.epochs,
            minibatches=s.num_envs * s.steps // s.batch,
            value_weight=1.0,  # ours halves the squared error, theirs the weight
            normalize_observations=False,
            seed=seed,
        )
        self.obs = env.reset(seed)

    def learn(self) -> None:
        for _ in range(self.s.per_check):
            rollout, self.obs = collect_rollout(self.agent, self.env, self.obs, self.s.steps)
            self.agent.update(rollout)

    def act(self, obs: Tensor, deterministic: bool) -> tuple[Tensor, None, None]:
        return self.agent.act(obs, deterministic)[0], None, None


class Theirs:
    """stable-baselines3's PPO, in its own vector environment in this process."""

    def __init__(self, s: Settings, seed: int):
        from stable_baselines3 import PPO as Peer
        from stable_baselines3.common.env_util import make_vec_env

        self.s = s
        self.model = Peer(
            "MlpPolicy",
            make_vec_env("CartPole-v1", s.num_envs, seed=seed),
            learning_rate=s.lr,
            n_steps=s.steps,
            batch_size=s.batch,
            n_epochs=s.epochs,
            gamma=s.gamma,
            gae_lambda=s.lam,
            clip_range=s.clip,
            seed=seed,
            device="cpu",
        )

    def learn(self) -> None:
        steps = self.s.per_check * self.s.num_envs * self.s.steps
        self.model.learn(steps, reset_num_timesteps=False)

    def act(self, obs: Tensor, deterministic: bool) -> tuple[Tensor, None, None]:
        action, _ = self.model.predict(obs.numpy(), deterministic=deterministic)
        return torch.as_tensor(action), None, None


def compare(seeds: Sequence[int], s: Settings = Settings()) -> dict[str, list[dict[str, Any]]]:
    """Returns and steps a second of three contestants, checks interleaved, one list entry a seed.

    The judge is one for all: ``judges`` fresh environments, one whole episode each, the most
    probable action. ``rate``: environment steps a second while learning, judging left out.
    """
    makers: dict[str, Callable[[int], Any]] = {
        "ours, Gymnasium": lambda seed: Ours(
            s, seed, GymnasiumVector("CartPole-v1", s.num_envs, seed=seed)
        ),
        "stable-baselines3": lambda seed: Theirs(s, seed),
        "ours, batched": lambda seed: Ours(s, seed, CartPole(s.num_envs, seed=seed)),
    }
    steps = s.per_check * s.num_envs * s.steps
    out: dict[str, list[dict[str, Any]]] = {name: [] for name in makers}
    for seed in seeds:
        rows = {name: {"scores": [], "seconds": []} for name in makers}
        agents = {name: make(seed) for name, make in makers.items()}
        for _ in range(s.checks):
            for name, agent in agents.items():
                start = time.perf_counter()
                agent.learn()
                rows[name]["seconds"].append(time.perf_counter() - start)
                judge = CartPole(s.judges)
                score = first_episode_returns(agent, judge, 10_000 + seed).mean().item()
                rows[name]["scores"].append(score)
        for name, row in rows.items():
            rate = s.checks * steps / sum(row["seconds"])
            out[name].append({"scores": row["scores"], "rate": rate})
    return out
