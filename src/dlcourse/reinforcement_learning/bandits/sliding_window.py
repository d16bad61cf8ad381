"""LinUCB that remembers only the latest observations, for rewards that change.

Cheung, Simchi-Levi and Zhu (2019), section 3: ridge regression over a sliding window. They have
one parameter vector for all actions; here each arm has one, and the window is common.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import ArrayLike

from . import _checks
from .linucb import LinUCB
from .ridge_arms import rank_one_update


class SlidingWindowLinUCB(LinUCB):
    """LinUCB over the last ``window`` observations, all arms together, in O(d²) an update.

    The oldest observation is taken away by a rank-one step with the sign turned. Such steps lose
    digits, so an arm's inverse is computed anew after every ``window`` steps of taking away.

    Args:
        window: observations that count, at least 1.
        num_arms, context_dim, alpha, ridge, seed: as of ``LinUCB``.
    """

    def __init__(
        self,
        num_arms: int,
        context_dim: int,
        window: int,
        alpha: float = 1.0,
        ridge: float = 1.0,
        *,
        seed: int | np.random.Generator = 0,
    ) -> None:
        super().__init__(num_arms, context_dim, alpha, ridge, seed=seed)
        self.window = _checks.count(window, "window")
        self._kept: deque[tuple[np.ndarray, int, float]] = deque()
        self._removed = np.zeros(self.num_arms, dtype=np.int64)

    def update(self, context: ArrayLike, arm: int, reward: float) -> None:
        """Add an observation, and take away the one that falls out of the window."""
        super().update(context, arm, reward)
        self._kept.append((np.array(context, dtype=np.float64), int(arm), float(reward)))
        if len(self._kept) > self.window:
            self._forget_oldest()

    def update_batch(self, contexts: ArrayLike, arms: ArrayLike, rewards: ArrayLike) -> None:
        """As ``update`` for each row in turn, after all have been checked."""
        x = _checks.reals(contexts, (None, self.context_dim), "contexts")
        arms = _checks.arm_indices(arms, self.num_arms, len(x))
        rewards = _checks.reals(rewards, (len(x),), "rewards")
        if max(np.abs(x).max(initial=0.0), np.abs(rewards).max(initial=0.0)) > 1e75:
            raise FloatingPointError("contexts or rewards are too large for float64: scale them")
        for row, arm, reward in zip(x, arms, rewards, strict=True):
            self.update(row, arm, reward)

    def _forget_oldest(self) -> None:
        x, arm, reward = self._kept.popleft()
        self._removed[arm] += 1
        response = self.response[arm] - reward * x
        try:
            if self._removed[arm] % self.window == 0:
                raise FloatingPointError
            inverse = rank_one_update(self.inverse[arm], x, sign=-1)
        except FloatingPointError:
            inverse, response = self._computed_anew(arm)
        self._set(arm, inverse, response, -1)

    def _computed_anew(self, arm: int) -> tuple[np.ndarray, np.ndarray]:
        mine = [(x, r) for x, a, r in self._kept if a == arm]
        A = self.ridge * np.eye(self.context_dim)
        b = np.zeros(self.context_dim)
        for x, r in mine:
            A += np.outer(x, x)
            b += r * x
        inverse = np.linalg.inv(A)
        return (inverse + inverse.T) / 2, b
