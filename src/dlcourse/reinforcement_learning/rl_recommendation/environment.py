"""122.2a: many simulated users at once."""

import torch

from dlcourse.reinforcement_learning.rl_recommendation.user import UserModel


class RecommendationEnv:
    """Simulated users after RecSim's Choc/Kale (Ie et al., 2019); gymnasium's order of returns.

    clickbait: (A,) scores of the items in [0, 1]. Observations (U, D) are float32:
    `observe="latent"` shows exposure and time, `"history"` the last `window` items' scores and
    time. With `no_repeat` an item is shown once to a user; `info["allowed"]` (U, A) says which
    items are left. Time is part of the observation and the session ends at the horizon, so the
    end is `terminated`; nothing is truncated.
    """

    def __init__(
        self, num_users, clickbait=(0.0, 0.25, 0.5, 0.75, 1.0), user=None, *,
        observe="latent", window=8, no_repeat=False,
    ):
        self.user = UserModel() if user is None else user
        self.clickbait = torch.as_tensor(clickbait, dtype=torch.float64)
        if num_users < 1 or window < 1:
            raise ValueError("num_users and window must be at least 1")
        if self.clickbait.ndim != 1 or len(self.clickbait) == 0:
            raise ValueError("clickbait must hold one score for each item, and at least one")
        if not ((self.clickbait >= 0) & (self.clickbait <= 1)).all():
            raise ValueError("clickbait scores must lie in [0, 1] and not be NaN")
        if observe not in ("latent", "history"):
            raise ValueError(f"observe must be 'latent' or 'history', got {observe!r}")
        if no_repeat and len(self.clickbait) < self.user.horizon:
            raise ValueError(
                f"{len(self.clickbait)} items can't fill {self.user.horizon} steps without repeats"
            )
        self.num_users, self.num_items = num_users, len(self.clickbait)
        self.observe, self.window, self.no_repeat = observe, window, no_repeat
        self.obs_dim = 2 if observe == "latent" else window + 1
        self.time = None

    def reset(self, seed):
        """Start new sessions; returns observations (U, D) and info."""
        self._random = torch.Generator().manual_seed(seed)
        u = self.num_users
        self.exposure = torch.zeros(u, dtype=torch.float64)
        self.taste = torch.zeros(u, dtype=torch.float64)
        self.history = torch.zeros(u, self.window, dtype=torch.float64)  # newest first, 0: none
        self.shown = torch.zeros(u, self.num_items, dtype=torch.bool)
        self.last = torch.full((u,), -1)
        self.time = 0
        return self._observation(), self._info()

    def step(self, items, places=0):
        """Show items (U,), at places (0 is the first); returns obs, minutes (U,), ends, info."""
        if self.time is None or self.time >= self.user.horizon:
            raise RuntimeError("the sessions are over or not begun: call reset(seed)")
        items = check_items(items, ~self.shown if self.no_repeat else None, self.num_users,
                            self.num_items)
        places = torch.as_tensor(places)
        if places.is_floating_point() or (places < 0).any():
            raise ValueError("places must be whole numbers from 0")
        c, user = self.clickbait[items], self.user
        mean = user.log_engagement(self.exposure, c) + self.taste * (2 * c - 1)
        mean = mean - user.boredom * (items == self.last) - user.position * places
        minutes = torch.exp(mean + self._normal())  # (U,)
        self.exposure = user.next_exposure(self.exposure, c) + user.innovation * self._normal()
        self.taste = self.taste + user.drift * self._normal()
        self.history = torch.cat([(2 * c - 1)[:, None], self.history[:, :-1]], 1)
        self.shown[torch.arange(self.num_users), items] = True
        self.last = items.clone()
        self.time += 1
        ends = torch.full((self.num_users,), self.time == user.horizon)
        return self._observation(), minutes, ends, torch.zeros_like(ends), self._info()

    def _normal(self):
        return torch.randn(self.num_users, generator=self._random, dtype=torch.float64)

    def _observation(self):
        left = torch.full((self.num_users, 1), 1 - self.time / self.user.horizon)
        seen = self.exposure[:, None] / 3 if self.observe == "latent" else self.history
        return torch.cat([seen.float(), left], 1)

    def _info(self):
        allowed = ~self.shown if self.no_repeat else torch.ones_like(self.shown)
        satisfaction = self.user.satisfaction(self.exposure)
        return {"allowed": allowed, "satisfaction": satisfaction, "exposure": self.exposure.clone()}


def check_items(items, allowed, num_users, num_items):
    """Return items as (U,) int64, or raise: wrong shape, type, no such item, shown before."""
    items = torch.as_tensor(items)
    if items.shape != (num_users,):
        raise ValueError(f"one item for each of {num_users} users, got shape {tuple(items.shape)}")
    if items.is_floating_point() or items.dtype == torch.bool:
        raise TypeError(f"items are whole numbers, got {items.dtype}")
    items = items.long()
    if ((items < 0) | (items >= num_items)).any():
        raise IndexError(f"items go from 0 to {num_items - 1}, got {items.tolist()}")
    if allowed is not None and not allowed[torch.arange(num_users), items].all():
        raise ValueError("an item was shown to its user before: choose where allowed is True")
    return items
