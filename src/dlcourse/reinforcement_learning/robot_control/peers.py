"""SAC of stable-baselines3 behind our names, for the cells and tests that compare it with ours.

Chapter: ``122_reinforcement_learning`` (recorded cells of ``1a_robot_control``). Needs
stable-baselines3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .sac import SAC

__all__ = ["StableBaselinesSAC", "copy_weights"]


class StableBaselinesSAC:
    """Its SAC with our settings, and the ``act`` that ``evaluate`` calls."""

    def __init__(
        self, env: Any, *, hidden: tuple[int, ...], lr: float, gamma: float, tau: float,
        batch_size: int, learning_starts: int, capacity: int, seed: int,
    ) -> None:  # fmt: skip
        from stable_baselines3 import SAC as Peer

        self.model = Peer(
            "MlpPolicy", env, learning_rate=lr, buffer_size=capacity, batch_size=batch_size,
            learning_starts=learning_starts, tau=tau, gamma=gamma, seed=seed, device="cpu",
            policy_kwargs={"net_arch": list(hidden)},
        )  # fmt: skip

    def act(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        return self.model.predict(obs, deterministic=deterministic)[0]

    def learn(self, steps: int) -> None:
        """Go on for ``steps`` environment steps."""
        self.model.learn(steps, reset_num_timesteps=False)

    def add(self, *transition: Any) -> None:
        """Store obs, action, reward, next_obs, terminated of one transition."""
        obs, action, reward, next_obs, terminated = (np.asarray(x)[None] for x in transition)
        self.model.replay_buffer.add(obs, next_obs, action, reward, terminated, [{}])

    def update(self, times: int = 1) -> dict[str, float]:
        """Updates from the buffer; the losses that it logs, averaged over ``times``."""
        from stable_baselines3.common.logger import Logger

        self.model.set_logger(Logger(None, []))
        self.model.train(times, self.model.batch_size)
        return dict(self.model.logger.name_to_value)


@torch.no_grad()
def copy_weights(agent: SAC, peer: StableBaselinesSAC) -> None:
    """Give the peer our actor, critics and target critics."""
    policy = peer.model.policy
    actor = [*policy.actor.latent_pi, policy.actor.mu, policy.actor.log_std]
    *layers, mean, log_std = [m for m in actor if isinstance(m, torch.nn.Linear)]
    parts = [part[0] for part in agent.actor.parts(agent.actor.flat)]
    for k, layer in enumerate(layers):
        layer.weight.copy_(parts[2 * k].T)
        layer.bias.copy_(parts[2 * k + 1][0])
    for layer, half in zip((mean, log_std), range(2), strict=True):  # ours has both in one layer
        layer.weight.copy_(parts[-2].chunk(2, 1)[half].T)
        layer.bias.copy_(parts[-1][0].chunk(2)[half])
    pairs = ((agent.critics, policy.critic), (agent.target_critics, policy.critic_target))
    for own, theirs in pairs:
        parts = own.parts(own.flat)
        for i, net in enumerate(theirs.q_networks):
            for k, layer in enumerate(m for m in net if isinstance(m, torch.nn.Linear)):
                layer.weight.copy_(parts[2 * k][i].T)
                layer.bias.copy_(parts[2 * k + 1][i, 0])
