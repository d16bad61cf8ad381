"""LinUCB whose observations count less the older they are, for rewards that change.

Russac, Vernade and Cappé (2019), Algorithm 1 (D-LinUCB): ridge regression with the weight γᵃ for an
observation that is a updates old. They have one parameter vector for all actions; here each arm
has one, and the age counts the updates of all arms. Their radius β_t is a constant α here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .linucb import LinUCB


class DiscountedLinUCB(LinUCB):
    """LinUCB with a forgetting factor γ: of n = 1 / (1 − γ) observations' worth, all arms together.

    For each arm, over its observations of ages a = 0, 1, …:

        A = λ I + Σ γᵃ x xᵀ      Ã = λ I + Σ γ²ᵃ x xᵀ      b = Σ γᵃ r x      θ = A⁻¹ b

    and the width is √(xᵀ A⁻¹ Ã A⁻¹ x). The ridge λ is not forgotten, so that no rank-one step gives
    A⁻¹: an update costs O(K d³). With γ = 1 it is ``LinUCB``.

    Args:
        discount: γ, above 0 and at most 1.
        num_arms, context_dim, alpha, ridge, seed: as of ``LinUCB``.

    ``counts`` counts all observations, whatever they still weigh.
    """

    def __init__(
        self,
        num_arms: int,
        context_dim: int,
        discount: float,
        alpha: float = 1.0,
        ridge: float = 1.0,
        *,
        seed: int | np.random.Generator = 0,
    ) -> None:
        super().__init__(num_arms, context_dim, alpha, ridge, seed=seed)
        self.discount = _checks.finite(discount, "discount", positive=True)
        if self.discount > 1:
            raise ValueError(f"discount must be at most 1: got {discount}")
        shape = self.inverse.shape
        self._seen = np.zeros(shape)  # Σ γᵃ x xᵀ  (K, d, d)
        self._seen_twice = np.zeros(shape)  # Σ γ²ᵃ x xᵀ

    def mean_and_width(self, context: ArrayLike) -> tuple[NDArray, NDArray]:
        """For each arm the estimate xᵀθ and its width √(xᵀ A⁻¹ Ã A⁻¹ x), both ``(K,)``.

        Args:
            context: ``(d,)``, the same for all arms, or ``(K, d)``, one row an arm.

        Raises:
            ValueError: another shape, or a number that is not finite.
        """
        k, d = self.num_arms, self.context_dim
        if np.ndim(context) == 2:
            x = _checks.reals(context, (k, d), "context")
        else:
            x = np.broadcast_to(_checks.reals(context, (d,), "context"), (k, d))
        u = (self.inverse @ x[:, :, None])[:, :, 0]  # A⁻¹ x  (K, d)
        spread = (self._seen_twice @ u[:, :, None])[:, :, 0] + self.ridge * u  # Ã A⁻¹ x
        return (x * self.theta).sum(1), np.sqrt(np.maximum((u * spread).sum(1), 0.0))

    def update(self, context: ArrayLike, arm: int, reward: float) -> None:
        """Make all that was seen older by one, and add an observation.

        Raises as ``LinUCB.update`` does; then nothing is changed.
        """
        x = _checks.reals(context, (self.context_dim,), "context")
        arm = _checks.arm_index(arm, self.num_arms)
        r = float(_checks.reals(reward, (), "reward"))
        if max(np.abs(x).max(), abs(r)) > 1e75:
            raise FloatingPointError("the context or the reward is too large for float64: scale it")
        self._seen *= self.discount
        self._seen_twice *= self.discount**2
        self.response *= self.discount
        self._seen[arm] += np.outer(x, x)
        self._seen_twice[arm] += np.outer(x, x)
        self.response[arm] += r * x
        inverse = np.linalg.inv(self._seen + self.ridge * np.eye(self.context_dim))
        self.inverse = (inverse + inverse.transpose(0, 2, 1)) / 2
        self.theta = (self.inverse @ self.response[:, :, None])[:, :, 0]
        self.counts[arm] += 1

    def update_batch(self, contexts: ArrayLike, arms: ArrayLike, rewards: ArrayLike) -> None:
        """As ``update`` for each row in turn, after all have been checked."""
        x = _checks.reals(contexts, (None, self.context_dim), "contexts")
        arms = _checks.arm_indices(arms, self.num_arms, len(x))
        rewards = _checks.reals(rewards, (len(x),), "rewards")
        if max(np.abs(x).max(initial=0.0), np.abs(rewards).max(initial=0.0)) > 1e75:
            raise FloatingPointError("contexts or rewards are too large for float64: scale them")
        for row, arm, reward in zip(x, arms, rewards, strict=True):
            self.update(row, arm, reward)
