"""122.2a: discrete soft actor-critic, several seeds in one batched network."""

import copy

import torch
from torch import nn

from dlcourse.reinforcement_learning.rl_recommendation.expectations import (
    critic_target,
    masked_log_policy,
    soft_value,
)


class Networks(nn.Module):
    """S independent perceptrons with one hidden layer, (S, B, D) -> (S, B, A), by bmm."""

    def __init__(self, copies, inputs, outputs, width, generator):
        super().__init__()

        def uniform(*shape, fan):
            return nn.Parameter((2 * torch.rand(*shape, generator=generator) - 1) / fan**0.5)

        self.w1 = uniform(copies, inputs, width, fan=inputs)
        self.b1 = uniform(copies, 1, width, fan=inputs)
        self.w2 = uniform(copies, width, outputs, fan=width)
        self.b2 = nn.Parameter(torch.zeros(copies, 1, outputs))

    def forward(self, x):
        hidden = torch.baddbmm(self.b1, x, self.w1).relu()  # (S, B, W)
        return torch.baddbmm(self.b2, hidden, self.w2)  # (S, B, A)


class DiscreteSAC:
    """Soft actor-critic for a finite choice (Christodoulou, 2019), for `runs` seeds at once.

    The expectation over actions is a sum, so nothing is sampled in a loss. Two critics with
    target networks; the smaller of the two is used. `temperature` is fixed, in units of reward.
    """

    def __init__(
        self, obs_dim, num_actions, *, runs=1, width=64, lr=3e-3, discount=0.9,
        temperature=0.01, tau=0.02, seed=0,
    ):
        if min(obs_dim, num_actions, runs, width) < 1:
            raise ValueError("obs_dim, num_actions, runs and width must be at least 1")
        if not (lr > 0 and 0 <= discount <= 1 and temperature >= 0 and 0 < tau <= 1):
            raise ValueError("need lr > 0, discount in [0, 1], temperature >= 0, tau in (0, 1]")
        self.random = torch.Generator().manual_seed(seed)
        self.obs_dim, self.num_actions, self.runs = obs_dim, num_actions, runs
        self.discount, self.temperature, self.tau = discount, temperature, tau
        shape = (runs, obs_dim, num_actions, width, self.random)
        self.actor = Networks(*shape)
        self.critics = nn.ModuleList([Networks(*shape), Networks(*shape)])
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor_steps = torch.optim.Adam(self.actor.parameters(), lr)
        self.critic_steps = torch.optim.Adam(self.critics.parameters(), lr)

    @torch.no_grad()
    def act(self, obs, allowed, deterministic=False):
        """Return items (S, B) for observations (S, B, D), allowed (S, B, A)."""
        self._check(obs)
        log_policy = masked_log_policy(self.actor(obs), allowed)
        if deterministic:
            return log_policy.argmax(-1)
        flat = log_policy.exp().flatten(0, 1)
        return torch.multinomial(flat, 1, generator=self.random).view(obs.shape[:2])

    def update(self, obs, actions, reward, next_obs, terminated, next_allowed, allowed):
        """One step of critics and actor. Returns both losses (mean over S).

        actions (int64), reward and terminated (bool) are (S, B) with B >= 1, observations
        (S, B, D), both masks (S, B, A). Another shape is a ValueError, and nothing is learned.
        """
        self._check(obs)
        self._check(next_obs)
        s, b = obs.shape[:2]
        for name, x, shape in (
            ("actions", actions, (s, b)), ("reward", reward, (s, b)),
            ("terminated", terminated, (s, b)), ("next_obs", next_obs, obs.shape),
            ("allowed", allowed, (s, b, self.num_actions)),
            ("next_allowed", next_allowed, (s, b, self.num_actions)),
        ):
            if x.shape != shape:
                raise ValueError(f"{name} must be {tuple(shape)}, got {tuple(x.shape)}")
        if actions.dtype != torch.int64 or terminated.dtype != torch.bool:
            raise ValueError("actions must be int64 and terminated bool")
        if not reward.isfinite().all():
            raise ValueError("a reward is NaN or infinite: nothing was learned from this batch")
        if ((actions < 0) | (actions >= self.num_actions)).any():
            raise IndexError(f"actions go from 0 to {self.num_actions - 1}")
        next_allowed = next_allowed | terminated[..., None]  # after the end no choice is made
        with torch.no_grad():
            log_next = masked_log_policy(self.actor(next_obs), next_allowed)
            q_next = torch.minimum(*(target(next_obs) for target in self.targets))
            v_next = soft_value(log_next, q_next, self.temperature)
            y = critic_target(reward, terminated, v_next, self.discount)
        masked_log_policy(torch.zeros_like(log_next), allowed)  # refuse before anything changes
        chosen = [c(obs).gather(-1, actions[..., None]).squeeze(-1) for c in self.critics]
        critic_loss = sum(((q - y) ** 2).mean(1) for q in chosen)  # (S,): each run its own mean
        self.critic_steps.zero_grad()
        critic_loss.sum().backward()
        self.critic_steps.step()
        with torch.no_grad():
            q = torch.minimum(*(critic(obs) for critic in self.critics))
        value = soft_value(masked_log_policy(self.actor(obs), allowed), q, self.temperature)
        actor_loss = -value.mean(1)
        self.actor_steps.zero_grad()
        actor_loss.sum().backward()
        self.actor_steps.step()
        with torch.no_grad():
            pairs = zip(self.targets.parameters(), self.critics.parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(fast, self.tau)
        return critic_loss.mean().item(), actor_loss.mean().item()

    def _check(self, obs):
        fits = obs.ndim == 3 and obs.shape[0] == self.runs and obs.shape[2] == self.obs_dim
        if not fits or obs.shape[1] == 0:
            raise ValueError(
                f"observations are ({self.runs}, B, {self.obs_dim}) with B at least 1, "
                f"got {tuple(obs.shape)}"
            )
        if not obs.isfinite().all():
            raise ValueError("an observation is NaN or infinite")
