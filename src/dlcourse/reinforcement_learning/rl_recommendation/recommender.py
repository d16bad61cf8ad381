"""122.2a: a learned policy in service, which shows no item twice and logs its propensities."""

import torch

from dlcourse.reinforcement_learning.rl_recommendation.expectations import masked_log_policy


class Recommender:
    """Choose items for named users by a `DiscreteSAC` of one run.

    A choice is logged with its probability (the propensity), without which no later policy can
    be evaluated on the log.
    """

    def __init__(self, agent, seed=0):
        if agent.runs != 1:
            raise ValueError(f"serve one run, got an agent with {agent.runs}")
        self.agent, self.shown, self.log = agent, {}, []
        self._random = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def recommend(self, user, obs):
        """Return an item not yet shown to user, for an observation (D,). None left: ValueError."""
        obs = torch.as_tensor(obs, dtype=torch.float32)
        if obs.shape != (self.agent.obs_dim,) or not obs.isfinite().all():
            raise ValueError(f"obs must hold {self.agent.obs_dim} finite numbers")
        allowed = torch.ones(self.agent.num_actions, dtype=torch.bool)
        allowed[list(self.shown.get(user, ()))] = False
        policy = masked_log_policy(self.agent.actor(obs[None, None])[0, 0], allowed).exp()
        item = int(torch.multinomial(policy, 1, generator=self._random))
        self.mark_shown(user, item)
        self.log.append((user, item, float(policy[item])))
        return item

    def mark_shown(self, user, item):
        """Note that a user has seen an item; an unknown or repeated one is refused."""
        if isinstance(item, bool) or not isinstance(item, int):
            raise TypeError(f"an item is a whole number, got {item!r}")
        if not 0 <= item < self.agent.num_actions:
            raise IndexError(f"item {item} does not exist: there are {self.agent.num_actions}")
        if item in self.shown.get(user, ()):
            raise ValueError(f"item {item} was shown to user {user!r} before")
        self.shown.setdefault(user, set()).add(item)
