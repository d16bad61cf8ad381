"""LinUCB with features that the arms share (Li, Chu, Langford and Schapire 2010, Algorithm 2).

The expected reward of arm a is zᵀβ + xᵀθ_a: β is common to all arms, θ_a the arm's own. Both come
from one ridge problem over all observations, whose blocks are eliminated arm by arm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .ties import random_argmax


class HybridLinUCB:
    """Hybrid LinUCB: what is learned of one arm's features helps all arms that have them.

    Args:
        num_arms: K.
        context_dim: d, features with a parameter vector an arm.
        shared_dim: k, features with one parameter vector for all arms.
        alpha: α ≥ 0.
        ridge: λ > 0, for β and each θ_a (1 in the paper).
        seed: of ties: a number or a ``numpy.random.Generator``.

    An update costs O(d² + d k² + k³), a choice O(K (d² + d k + k²)).
    """

    def __init__(
        self,
        num_arms: int,
        context_dim: int,
        shared_dim: int,
        alpha: float = 1.0,
        ridge: float = 1.0,
        *,
        seed: int | np.random.Generator = 0,
    ) -> None:
        self.num_arms = K = _checks.count(num_arms, "num_arms")
        self.context_dim = d = _checks.count(context_dim, "context_dim")
        self.shared_dim = k = _checks.count(shared_dim, "shared_dim")
        self.alpha = _checks.finite(alpha, "alpha")
        self.ridge = _checks.finite(ridge, "ridge", positive=True)
        self.rng = np.random.default_rng(seed)
        self.A0 = self.ridge * np.eye(k)
        self.b0 = np.zeros(k)
        self.A = np.tile(self.ridge * np.eye(d), (K, 1, 1))
        self.inverse = np.tile(np.eye(d) / self.ridge, (K, 1, 1))  # A_a⁻¹
        self.B = np.zeros((K, d, k))
        self.b = np.zeros((K, d))
        self.A0_inverse = np.eye(k) / self.ridge
        self.beta = np.zeros(k)

    @property
    def theta(self) -> NDArray[np.float64]:
        """θ_a = A_a⁻¹ (b_a − B_a β) of each arm, ``(K, d)``."""
        return np.einsum("aij,aj->ai", self.inverse, self.b - self.B @ self.beta)

    def mean_and_width(self, context: ArrayLike, shared: ArrayLike) -> tuple[NDArray, NDArray]:
        """For each arm the estimate zᵀβ + xᵀθ and its width √s, both ``(K,)``.

        Args:
            context: ``(d,)``, the same for all arms, or ``(K, d)``.
            shared: ``(K, k)``, one row of shared features an arm.
        """
        x, z = self._features(context, shared)
        u = np.einsum("aij,aj->ai", self.inverse, x)  # A_a⁻¹ x  (K, d)
        v = np.einsum("adk,ad->ak", self.B, u)  # B_aᵀ A_a⁻¹ x  (K, k)
        # The paper's s = zᵀA₀⁻¹z − 2 zᵀA₀⁻¹v + xᵀA⁻¹x + vᵀA₀⁻¹v, as a sum of squares.
        rest = z - v
        s = np.einsum("ak,kl,al->a", rest, self.A0_inverse, rest) + (x * u).sum(1)
        return z @ self.beta + (x * self.theta).sum(1), np.sqrt(np.maximum(s, 0.0))

    def scores(self, context: ArrayLike, shared: ArrayLike) -> NDArray[np.float64]:
        """The upper confidence bound of each arm, ``(K,)``."""
        mean, width = self.mean_and_width(context, shared)
        return mean + self.alpha * width

    def select(self, context: ArrayLike, shared: ArrayLike) -> int:
        """The arm of the largest bound; equal ones are drawn at random."""
        return random_argmax(self.scores(context, shared), self.rng)

    def update(self, context: ArrayLike, shared: ArrayLike, arm: int, reward: float) -> None:
        """Learn the reward of one choice.

        Args:
            context: ``(d,)``.
            shared: ``(k,)``, the shared features of the arm that was chosen.
            arm: 0 … K − 1.
            reward: finite.

        Raises:
            ValueError: another shape, an arm that does not exist, NaN or infinity.
            FloatingPointError: numbers too large for float64. Nothing is changed by an error.
        """
        x = _checks.reals(context, (self.context_dim,), "context")
        z = _checks.reals(shared, (self.shared_dim,), "shared")
        a = _checks.arm_index(arm, self.num_arms)
        r = float(_checks.reals(reward, (), "reward"))
        if max(np.abs(x).max(), np.abs(z).max()) * max(1.0, abs(r)) > 1e100:
            raise FloatingPointError("numbers are too large for float64: scale the features")
        # The arm's part leaves A₀ and b₀, changes, and comes back.
        before = self.B[a].T @ self.inverse[a]  # B_aᵀ A_a⁻¹  (k, d)
        A0, b0 = self.A0 + before @ self.B[a], self.b0 + before @ self.b[a]
        A, B, b = self.A[a] + np.outer(x, x), self.B[a] + np.outer(x, z), self.b[a] + r * x
        u = self.inverse[a] @ x
        inverse = self.inverse[a] - np.outer(u, u) / (1 + x @ u)
        after = B.T @ inverse
        A0 = A0 + np.outer(z, z) - after @ B
        b0 = b0 + r * z - after @ b
        A0 = (A0 + A0.T) / 2
        A0_inverse = np.linalg.inv(A0)
        self.A[a], self.inverse[a], self.B[a], self.b[a] = A, inverse, B, b
        self.A0, self.b0 = A0, b0
        self.A0_inverse = (A0_inverse + A0_inverse.T) / 2
        self.beta = self.A0_inverse @ b0  # β = A₀⁻¹ b₀

    def _features(self, context: ArrayLike, shared: ArrayLike) -> tuple[NDArray, NDArray]:
        K, d, k = self.num_arms, self.context_dim, self.shared_dim
        if np.ndim(context) == 2:
            x = _checks.reals(context, (K, d), "context")
        else:
            x = np.broadcast_to(_checks.reals(context, (d,), "context"), (K, d))
        return x, _checks.reals(shared, (K, k), "shared")
