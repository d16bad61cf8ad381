"""A ridge regression for each arm, kept up to date in O(d²).

For arm a with observations (x_i, r_i), i = 1 … n (Li et al. 2010, section 3.1, where λ = 1):

    A = λ I + Σ x_i x_iᵀ        b = Σ r_i x_i        θ = A⁻¹ b

Only A⁻¹ is stored. Adding one observation changes A by a matrix of rank one, so that (Sherman and
Morrison 1950)

    (A + x xᵀ)⁻¹ = A⁻¹ − (A⁻¹ x)(A⁻¹ x)ᵀ / (1 + xᵀ A⁻¹ x)

This is exact up to rounding for features of a size near 1. A larger x is subtracted from an A⁻¹ of
size 1/λ and leaves 1/|x|², so that up to 1e-16 · |x|²/λ of what is left is rounding: with λ = 1,
1e-10 at |x| = 1e3, 1e-4 at 1e6, and all of it at 1e8. So scale the features first. An observation
with xᵀ A⁻¹ x above 1e12, which would leave fewer than four digits, is refused.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .ties import random_argmax

LARGEST = 1e12  # xᵀ A⁻¹ x: of float64's 16 digits 12 are lost


def rank_one_update(
    inverse: NDArray[np.float64], x: NDArray[np.float64], sign: int = 1
) -> NDArray[np.float64]:
    """(A + sign · x xᵀ)⁻¹ from A⁻¹, in O(d²); symmetric to the bit where A⁻¹ is.

    Exact up to rounding for features of a size near 1; see the module for larger ones.

    Args:
        inverse: A⁻¹, ``(d, d)``, symmetric.
        x: ``(d,)``.
        sign: 1 adds an observation, −1 takes one away.

    Raises:
        FloatingPointError: x is too large for float64, or was never added.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        u = inverse @ x  # A⁻¹ x  (d,)
        denominator = 1.0 + sign * (x @ u)  # 1 ± xᵀ A⁻¹ x
        result = inverse - sign * (np.outer(u, u) / denominator)
    if not (0 < denominator < LARGEST and np.isfinite(result).all()):
        raise FloatingPointError(
            "the context is too large for float64: scale the features to a size near 1"
        )
    return result


class RidgeArms:
    """Statistics of K arms, and what LinUCB and Thompson sampling share.

    Args:
        num_arms: K.
        context_dim: d.
        ridge: λ > 0, the strength of the prior that θ is near 0 (1 in the paper).
        seed: of ties and of drawn parameters: a number or a ``numpy.random.Generator``.

    Attributes:
        inverse: A⁻¹ of each arm, ``(K, d, d)``.
        response: b of each arm, ``(K, d)``.
        theta: the ridge solution of each arm, ``(K, d)``.
        counts: observations of each arm, ``(K,)``.
    """

    def __init__(
        self,
        num_arms: int,
        context_dim: int,
        ridge: float = 1.0,
        *,
        seed: int | np.random.Generator = 0,
    ) -> None:
        self.num_arms = k = _checks.count(num_arms, "num_arms")
        self.context_dim = d = _checks.count(context_dim, "context_dim")
        self.ridge = _checks.finite(ridge, "ridge", positive=True)
        self.rng = np.random.default_rng(seed)
        self.inverse = np.tile(np.eye(d) / self.ridge, (k, 1, 1))  # (K, d, d)
        self.response = np.zeros((k, d))
        self.theta = np.zeros((k, d))
        self.counts = np.zeros(k, dtype=np.int64)

    def mean_and_width(self, context: ArrayLike) -> tuple[NDArray, NDArray]:
        """For each arm the estimate xᵀθ and its width √(xᵀ A⁻¹ x), both ``(K,)``.

        Args:
            context: ``(d,)``, the same for all arms, or ``(K, d)``, one row an arm.

        Raises:
            ValueError: another shape, or a number that is not finite.
        """
        x = np.asarray(context)
        k, d = self.num_arms, self.context_dim
        if x.ndim == 2:
            x = _checks.reals(x, (k, d), "context")
            u = np.einsum("kij,kj->ki", self.inverse, x)
            return (x * self.theta).sum(1), np.sqrt(np.maximum((x * u).sum(1), 0.0))
        x = _checks.reals(x, (d,), "context")
        u = (self.inverse.reshape(k * d, d) @ x).reshape(k, d)  # A⁻¹ x, one pass over memory
        return self.theta @ x, np.sqrt(np.maximum(u @ x, 0.0))

    def scores(self, context: ArrayLike) -> NDArray[np.float64]:
        """What the choice is made by, ``(K,)``; each kind of bandit has its own."""
        raise NotImplementedError

    def select(self, context: ArrayLike) -> int:
        """The arm of the largest score; equal ones are drawn at random.

        Raises ValueError for a context of another shape or with a number that is not finite.
        """
        return random_argmax(self.scores(context), self.rng)

    def select_batch(self, contexts: ArrayLike) -> NDArray[np.intp]:
        """Arms for n contexts ``(n, d)``, all with what is known now: ``(n,)``."""
        x = _checks.reals(contexts, (None, self.context_dim), "contexts")
        return np.array([self.select(row) for row in x], dtype=np.intp)

    def update(self, context: ArrayLike, arm: int, reward: float) -> None:
        """Learn the reward of one choice, in O(d²). It may come late, and in any order.

        Args:
            context: ``(d,)``: what was seen when the arm was chosen.
            arm: 0 … K − 1.
            reward: finite.

        Raises:
            ValueError: a context of another shape, an arm that does not exist, NaN or infinity.
            FloatingPointError: numbers too large for float64. Nothing is changed by an error.
        """
        x = _checks.reals(context, (self.context_dim,), "context")
        arm = _checks.arm_index(arm, self.num_arms)
        r = float(_checks.reals(reward, (), "reward"))
        with np.errstate(over="ignore"):
            response = self.response[arm] + r * x  # b ← b + r x
        self._set(arm, rank_one_update(self.inverse[arm], x), response, 1)

    def update_batch(self, contexts: ArrayLike, arms: ArrayLike, rewards: ArrayLike) -> None:
        """Learn n rewards at once, the same as one by one; by Woodbury's identity for each arm.

        Args:
            contexts: ``(n, d)``.
            arms: ``(n,)``.
            rewards: ``(n,)``.

        Raises ValueError or FloatingPointError as ``update`` does; then nothing is changed.
        """
        x = _checks.reals(contexts, (None, self.context_dim), "contexts")
        arms = _checks.arm_indices(arms, self.num_arms, len(x))
        rewards = _checks.reals(rewards, (len(x),), "rewards")
        new = []
        for arm in np.unique(arms):
            mine = arms == arm
            inverse = self.inverse[arm]
            for start in range(0, int(mine.sum()), self.context_dim):  # blocks of at most d rows
                rows = x[mine][start : start + self.context_dim]  # (m, d)
                u = inverse @ rows.T  # (d, m)
                with np.errstate(over="ignore", invalid="ignore"):
                    small = np.eye(len(rows)) + rows @ u  # I + X A⁻¹ Xᵀ  (m, m)
                if not (np.diag(small) < LARGEST).all():  # true for NaN, too
                    raise FloatingPointError("contexts are too large for float64: scale them")
                inverse = inverse - u @ np.linalg.solve(small, u.T)
                inverse = (inverse + inverse.T) / 2
            with np.errstate(over="ignore", invalid="ignore"):
                response = self.response[arm] + rewards[mine] @ x[mine]
            if not (np.isfinite(inverse).all() and np.isfinite(response).all()):
                raise FloatingPointError("contexts or rewards are too large for float64")
            new.append((arm, inverse, response, int(mine.sum())))
        for arm, inverse, response, n in new:
            self._set(arm, inverse, response, n)

    def _set(self, arm: int, inverse: NDArray, response: NDArray, n: int) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            theta = inverse @ response  # θ = A⁻¹ b
        if not (np.isfinite(theta).all() and np.isfinite(response).all()):
            raise FloatingPointError("the reward is too large for float64: scale the rewards")
        self.inverse[arm], self.response[arm], self.theta[arm] = inverse, response, theta
        self.counts[arm] += n
