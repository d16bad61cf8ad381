"""Soft actor-critic (section 122.1a).

Haarnoja et al. (2018), "Soft actor-critic: Off-policy maximum entropy deep reinforcement learning
with a stochastic actor"; and (2018b), "Soft actor-critic algorithms and applications", which
drops the separate value network and learns the temperature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .agent import OffPolicyAgent, adam, step
from .networks import Actor
from .replay import Batch
from .squashed_gaussian import LOG_STD_MAX, LOG_STD_MIN, squashed_sample
from .targets import soft_value, td_target


class SAC(OffPolicyAgent):
    """Soft actor-critic with twin critics and a learned temperature.

    Args:
        obs_dim, action_dim: numbers in an observation and in an action; actions are in [−1, 1].
        hidden: widths of the hidden layers of actor and critics.
        num_critics: the target takes the minimum over all of them; 2 is the paper's.
        gamma: discount. tau: part of the way that target weights move in an update.
        lr: Adam's rate for actor, critics and temperature.
        target_entropy: in nats; −action_dim by default, as in the paper.
        init_temperature: α at the start.
        seed: of weights and noise.
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
        target_entropy: float | None = None,
        init_temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            obs_dim, action_dim, hidden=hidden, num_critics=num_critics, gamma=gamma, tau=tau,
            seed=seed,
        )  # fmt: skip
        if not 0 < init_temperature < math.inf:
            raise ValueError(f"init_temperature must be positive, got {init_temperature}")
        if target_entropy is not None and not math.isfinite(target_entropy):
            raise ValueError(f"target_entropy must be finite, got {target_entropy}")
        self.actor = Actor(obs_dim, 2 * action_dim, hidden, self.generator)
        self.log_alpha = torch.nn.Parameter(
            torch.tensor(init_temperature, dtype=torch.float32).log()
        )
        self.target_entropy = float(-action_dim if target_entropy is None else target_entropy)
        # Adam treats each weight by itself, so actor and temperature can share a call.
        self.actor_optimizer = adam([*self.actor.parameters(), self.log_alpha], lr)
        self.critic_optimizer = adam(self.critics.parameters(), lr)

    def policy(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-deviation before tanh: ``(B, obs_dim) -> (B, action_dim)`` twice."""
        mean, log_std = self.actor(obs).chunk(2, dim=-1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and their log-density: ``(B, action_dim)``, ``(B,)``."""
        return squashed_sample(*self.policy(obs), noise)

    @torch.no_grad()
    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        """y = r + γ (1 − terminated) (min Q'(s', a') − α log π(a'|s')), ``(B,)``."""
        next_action, log_prob = self.sample(batch.next_obs, noise)
        next_q = self.target_critics(batch.next_obs, next_action)  # (n, B)
        value = soft_value(next_q, log_prob, self.log_alpha.exp())
        return td_target(batch.reward, batch.terminated, value, self.gamma)

    def actor_loss(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of α log π(a|s) − min Q(s, a), with a drawn from π; and log π, detached."""
        action, log_prob = self.sample(obs, noise)
        q = self.critics.frozen(obs, action)  # the action enters: its gradient reaches the actor
        loss = -soft_value(q, log_prob, self.log_alpha.detach().exp()).mean()
        return loss, log_prob.detach()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of critics, actor, temperature and target networks.

        Returns the losses and the entropy before the step, as 0-dimensional tensors. Raises
        ValueError for wrong shapes, numbers that are not finite, or actions out of bounds; nothing
        has changed then.
        """
        self._check(batch)
        shape = len(batch.reward), self.action_dim
        critic = self._critic_step(batch, self.target(batch, self.noise(*shape)))
        actor, log_prob = self.actor_loss(batch.obs, self.noise(*shape))
        # α grows where the policy has less entropy than the target, and shrinks where it has more.
        gap = log_prob.mean() + self.target_entropy
        # Neither loss has a gradient for what the other moves: one step is both.
        step(self.actor_optimizer, actor - self.log_alpha * gap)
        self._move_targets()
        self.updates += 1
        return {"critic": critic, "actor": actor.detach(), "entropy": -log_prob.mean()}

    def _act(self, obs: Tensor, deterministic: bool) -> Tensor:
        mean, log_std = self.policy(obs)
        if deterministic:
            return torch.tanh(mean)
        return torch.tanh(mean + log_std.exp() * self.noise(*mean.shape))
