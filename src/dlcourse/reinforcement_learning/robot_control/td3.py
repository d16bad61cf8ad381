"""TD3: twin delayed deep deterministic policy gradient (section 122.1a).

Fujimoto, van Hoof and Meger (2018), "Addressing function approximation error in actor-critic
methods".
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ._checks import at_least_one
from .agent import OffPolicyAgent, adam, step
from .networks import Actor, polyak
from .replay import Batch
from .targets import td_target


class TD3(OffPolicyAgent):
    """A deterministic policy, twin critics, a smoothed target, and a delayed actor.

    Args:
        obs_dim, action_dim, hidden, num_critics, gamma, tau, seed: as in ``SAC``. With
            ``num_critics=1`` it is DDPG with a smoothed target and a delayed actor.
        lr: Adam's rate for both networks.
        exploration_noise: deviation of what ``act`` adds.
        target_noise, noise_clip: deviation and bound of the noise on the target's action.
        policy_delay: critics step each time, actor and target networks each such time.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int] = (256, 256),
        num_critics: int = 2,
        gamma: float = 0.99,
        tau: float = 0.005,
        lr: float = 3e-4,
        exploration_noise: float = 0.1,
        target_noise: float = 0.2,
        noise_clip: float = 0.5,
        policy_delay: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(
            obs_dim, action_dim, hidden=hidden, num_critics=num_critics, gamma=gamma, tau=tau,
            seed=seed,
        )  # fmt: skip
        for name, noise in (
            ("exploration_noise", exploration_noise), ("target_noise", target_noise)
        ):  # fmt: skip
            if not 0 <= noise < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, got {noise}")
        if not noise_clip >= 0:
            raise ValueError(f"noise_clip must be 0 or more, got {noise_clip}")
        self.exploration_noise, self.target_noise = exploration_noise, target_noise
        self.noise_clip = noise_clip
        self.policy_delay = at_least_one("policy_delay", policy_delay)
        self.actor = Actor(obs_dim, action_dim, hidden, self.generator)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.actor_optimizer = adam(self.actor.parameters(), lr)
        self.critic_optimizer = adam(self.critics.parameters(), lr)

    @torch.no_grad()
    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        """y = r + γ (1 − terminated) min Q'(s', clip(π'(s') + clipped noise)), ``(B,)``."""
        smooth = (self.target_noise * noise).clamp(-self.noise_clip, self.noise_clip)
        next_action = (torch.tanh(self.target_actor(batch.next_obs)) + smooth).clamp(-1, 1)
        next_q = self.target_critics(batch.next_obs, next_action).amin(0)
        return td_target(batch.reward, batch.terminated, next_q, self.gamma)

    def actor_loss(self, obs: Tensor) -> Tensor:
        """−mean of the first critic's Q(s, π(s)): equation 1 of the paper, one critic."""
        return -self.critics.frozen(obs, torch.tanh(self.actor(obs)))[0].mean()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the critics; each ``policy_delay``-th time also of actor and targets.

        Returns losses as 0-dimensional tensors. Raises as ``SAC.update`` does.
        """
        self._check(batch)
        noise = self.noise(len(batch.reward), self.action_dim)
        losses = {"critic": self._critic_step(batch, self.target(batch, noise))}
        self.updates += 1
        if self.updates % self.policy_delay == 0:
            actor = self.actor_loss(batch.obs)
            step(self.actor_optimizer, actor)
            self._move_targets()
            losses["actor"] = actor.detach()
        return losses

    def _move_targets(self) -> None:
        super()._move_targets()
        polyak(self.target_actor, self.actor, self.tau)

    def _act(self, obs: Tensor, deterministic: bool) -> Tensor:
        action = torch.tanh(self.actor(obs))
        if deterministic:
            return action
        return (action + self.exploration_noise * self.noise(*action.shape)).clamp(-1, 1)
