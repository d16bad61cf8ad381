"""A replay buffer that keeps "it is over" and "time is up" apart (section 122.1a)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._checks import at_least_one


class Batch(NamedTuple):
    """Transitions drawn from a buffer, float32: ``(B, obs_dim)``, ``(B, action_dim)``, ``(B,)``."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor  # 1 where the task ended: nothing follows
    truncated: Tensor  # 1 where the recording ended: the task would have gone on


class ReplayBuffer:
    """The last ``capacity`` transitions; batches are drawn uniformly, with replacement.

    Args:
        capacity: number of transitions, at least 1.
        obs_dim: numbers in an observation.
        action_dim: numbers in an action. Actions are stored in [−1, 1].
        seed: of the draws.

    Raises ValueError for sizes below 1, or not whole.

    Source: Lin (1992) for replay; Pardo et al. (2018) for the two kinds of ends.
    """

    def __init__(self, capacity: int, obs_dim: int, action_dim: int, *, seed: int = 0) -> None:
        self.capacity = at_least_one("capacity", capacity)
        self.obs_dim = at_least_one("obs_dim", obs_dim)
        self.action_dim = at_least_one("action_dim", action_dim)
        # One row a transition, so that one gather fetches a whole batch:
        # obs | action | next_obs | reward | terminated | truncated
        self._widths = (self.obs_dim, self.action_dim, self.obs_dim, 3)
        self._rows = torch.zeros(self.capacity, sum(self._widths), dtype=torch.float32)
        self._generator = torch.Generator().manual_seed(seed)
        self._next = self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(
        self, obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any, truncated: Any
    ) -> None:
        """Store one transition, or n at once (all with a first axis n).

        ``next_obs`` is what followed the action: at an end it is the last observation of the
        episode, never the first of the next.

        Raises ValueError for a wrong shape, NaN or infinity, an action outside [−1, 1], or more
        transitions than ``capacity``. Nothing is stored then.
        """
        obs = _rows("obs", obs, self.obs_dim)
        action = _rows("action", action, self.action_dim)
        next_obs = _rows("next_obs", next_obs, self.obs_dim)
        reward = _column("reward", reward)
        ends = [_column("terminated", terminated), _column("truncated", truncated)]
        n = len(obs)
        parts = (action, next_obs, reward, *ends)
        if any(len(part) != n for part in parts):
            raise ValueError(f"obs has {n} rows, the other parts {[len(part) for part in parts]}")
        if n > self.capacity:
            raise ValueError(f"{n} transitions do not fit into a capacity of {self.capacity}")
        if n and np.abs(action).max() > 1 + 1e-6:
            raise ValueError(
                f"an action of size {np.abs(action).max():.3g} is outside [-1, 1]: "
                "store the agent's action, before it is scaled to the environment's bounds"
            )
        if any(((end != 0) & (end != 1)).any() for end in ends):
            raise ValueError("terminated and truncated must be true or false")
        where = (self._next + np.arange(n)) % self.capacity
        # A view of the same memory, made anew: one that is kept would not follow a copy's rows.
        self._rows.numpy()[where] = np.concatenate([obs, action, next_obs, reward, *ends], axis=1)
        self._next = (self._next + n) % self.capacity
        self._size = min(self._size + n, self.capacity)

    def sample(self, batch_size: int) -> Batch:
        """Draw ``batch_size`` transitions. Raises ValueError if there are none to draw from."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not self._size:
            raise ValueError("the buffer is empty: add transitions before sampling")
        chosen = torch.randint(self._size, (batch_size,), generator=self._generator)
        obs, action, next_obs, rest = self._rows[chosen].split(self._widths, dim=1)
        reward, terminated, truncated = rest.unbind(1)  # (B,) each, not (B, 1)
        return Batch(obs, action, reward, next_obs, terminated, truncated)


def _rows(name: str, value: Any, width: int) -> np.ndarray:
    found = np.asarray(value, dtype=np.float32)
    found = found[None] if found.ndim == 1 else found
    if found.ndim != 2 or found.shape[1] != width:
        raise ValueError(f"{name} must be ({width},) or (n, {width}), got {np.shape(value)}")
    return _finite(name, found)


def _column(name: str, value: Any) -> np.ndarray:
    found = np.asarray(value, dtype=np.float32)
    if found.ndim > 1:
        raise ValueError(f"{name} must be a number or (n,), got {found.shape}")
    return _finite(name, found.reshape(-1, 1))


def _finite(name: str, value: np.ndarray) -> np.ndarray:
    if not np.isfinite(value).all():
        raise ValueError(f"{name} is not finite (NaN or infinity): fix the environment")
    return value
