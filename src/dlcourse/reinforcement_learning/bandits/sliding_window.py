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

# A step of rank one divides by 1 ± xᵀA⁻¹x. Its error grows with the square of that number or of
# its inverse, and xᵀA⁻¹x itself is known to about 1e-16 · |x|² tr A⁻¹. Beyond these limits the
# inverse is computed anew; within them 8 digits are right or more.
STEP_LIMIT = 1e3
SIZE_LIMIT = 1e8


class SlidingWindowLinUCB(LinUCB):
    """LinUCB over the last ``window`` observations, all arms together, in O(d²) an update.

    The oldest observation is taken away by a rank-one step with the sign turned. Such steps lose
    digits, so an arm's inverse is computed anew after every ``window`` steps of taking away, and
    whenever an observation outweighs all the others by far: features of any size are forgotten
    again without a trace. That costs O(n d²) for the n observations that the arm has in the window.

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
        x = _checks.reals(context, (self.context_dim,), "context")
        arm = _checks.arm_index(arm, self.num_arms)
        r = float(_checks.reals(reward, (), "reward"))
        if self._step_is_exact(arm, x, 1):
            super().update(x, arm, r)
            self._kept.append((np.array(x), arm, r))
        else:
            self._kept.append((np.array(x), arm, r))
            try:
                self._set(arm, *self._computed_anew(arm), 1)
            except FloatingPointError:
                self._kept.pop()
                raise
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
        if self._step_is_exact(arm, x, -1) and self._removed[arm] % self.window:
            inverse = rank_one_update(self.inverse[arm], x, sign=-1)
        else:
            inverse, response = self._computed_anew(arm)
        self._set(arm, inverse, response, -1)

    def _step_is_exact(self, arm: int, x: np.ndarray, sign: int) -> bool:
        inverse = self.inverse[arm]
        with np.errstate(over="ignore", invalid="ignore"):
            denominator = 1.0 + sign * (x @ inverse @ x)
            size = (x @ x) * np.trace(inverse)  # at least xᵀA⁻¹x
        if sign > 0 and not np.isfinite(size):
            raise FloatingPointError("the context is too large for float64: scale the features")
        return 1 / STEP_LIMIT < denominator < STEP_LIMIT and size < SIZE_LIMIT

    def _computed_anew(self, arm: int) -> tuple[np.ndarray, np.ndarray]:
        """A⁻¹ and b from what is kept. A = XᵀX is never formed, which would halve the digits."""
        mine = [(x, r) for x, a, r in self._kept if a == arm]
        with np.errstate(over="ignore", invalid="ignore"):
            b = sum((r * x for x, r in mine), np.zeros(self.context_dim))
        rows = np.vstack([np.sqrt(self.ridge) * np.eye(self.context_dim), *(x for x, _ in mine)])
        largest_first = np.argsort(-np.abs(rows).max(1), kind="stable")
        R = np.linalg.qr(rows[largest_first], mode="r")  # A = RᵀR
        root = np.linalg.inv(R)
        inverse = root @ root.T
        return (inverse + inverse.T) / 2, b
