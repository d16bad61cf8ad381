"""122.2a: a learned policy in service: no item twice, and a log of what was shown."""

import math
import operator
from typing import NamedTuple

import torch

from dlcourse.reinforcement_learning.rl_recommendation.expectations import masked_log_policy


class Shown(NamedTuple):
    """One line of the log: what was seen, what could be shown, what was, and how likely it was.

    `event` joins a reward that comes later to its line; until then `reward` is None.
    """

    event: int
    user: object
    obs: tuple  # (D,)
    allowed: tuple  # (A,)
    item: int
    propensity: float
    reward: float | None = None


class Recommender:
    """Choose items for named users by a `DiscreteSAC` of one run.

    `log` holds a `Shown` for each choice. Another policy can be evaluated on it: that policy
    needs the observation and the allowed items, and its estimate the propensity and the reward.
    """

    def __init__(self, agent, seed=0):
        if agent.runs != 1:
            raise ValueError(f"serve one run, got an agent with {agent.runs}")
        self.agent, self.shown, self.log = agent, {}, []
        self._random = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def recommend(self, user, obs):
        """Choose an item not yet shown to user, for an observation (D,); returns its `Shown`.

        No item left: ValueError.
        """
        obs = torch.as_tensor(obs, dtype=torch.float32)
        if obs.shape != (self.agent.obs_dim,) or not obs.isfinite().all():
            raise ValueError(f"obs must hold {self.agent.obs_dim} finite numbers")
        allowed = torch.ones(self.agent.num_actions, dtype=torch.bool)
        allowed[list(self.shown.get(user, ()))] = False
        policy = masked_log_policy(self.agent.actor(obs[None, None])[0, 0], allowed).exp()
        item = int(torch.multinomial(policy, 1, generator=self._random))
        self.mark_shown(user, item)
        seen, left = tuple(obs.tolist()), tuple(allowed.tolist())
        self.log.append(Shown(len(self.log), user, seen, left, item, float(policy[item])))
        return self.log[-1]

    def give_reward(self, event, reward):
        """Join a reward (minutes, say) to its event; unknown, twice or not finite: ValueError."""
        event, reward = operator.index(event), float(reward)
        if not 0 <= event < len(self.log):
            raise ValueError(f"event {event} is not in the log of {len(self.log)}")
        if self.log[event].reward is not None:
            raise ValueError(f"event {event} has its reward already")
        if not math.isfinite(reward):
            raise ValueError(f"a reward must be finite, got {reward}")
        self.log[event] = self.log[event]._replace(reward=reward)

    def mark_shown(self, user, item):
        """Note that a user has seen an item; an unknown or repeated one is refused."""
        if isinstance(item, bool):
            raise TypeError(f"an item is a whole number, got {item!r}")
        item = operator.index(item)  # a NumPy integer too; a float is a TypeError
        if not 0 <= item < self.agent.num_actions:
            raise IndexError(f"item {item} does not exist: there are {self.agent.num_actions}")
        if item in self.shown.get(user, ()):
            raise ValueError(f"item {item} was shown to user {user!r} before")
        self.shown.setdefault(user, set()).add(item)
