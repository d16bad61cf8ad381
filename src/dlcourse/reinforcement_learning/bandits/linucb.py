"""LinUCB with disjoint linear models, one an arm (Li, Chu, Langford and Schapire 2010).

Their Algorithm 1 with A⁻¹ kept, so that a choice costs O(K d²) and an update O(d²).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .ridge_arms import RidgeArms


class LinUCB(RidgeArms):
    """Choose the arm whose reward could be highest: xᵀθ + α √(xᵀ A⁻¹ x).

    Args:
        num_arms: K.
        context_dim: d.
        alpha: α ≥ 0, how many widths count as "could be"; 0 is greedy, which can be
            as good where contexts vary enough to explore by themselves: Bastani, Bayati and
            Khosravi 2021, Mostly exploration-free algorithms for contextual bandits, Management
            Science, prove it of two arms.
        ridge: λ > 0 (1 in the paper).
        seed: of ties: a number or a ``numpy.random.Generator``.

    Raises ValueError or TypeError for arguments outside of these.
    """

    def __init__(
        self,
        num_arms: int,
        context_dim: int,
        alpha: float = 1.0,
        ridge: float = 1.0,
        *,
        seed: int | np.random.Generator = 0,
    ) -> None:
        super().__init__(num_arms, context_dim, ridge, seed=seed)
        self.alpha = _checks.finite(alpha, "alpha")

    def scores(self, context: ArrayLike) -> NDArray[np.float64]:
        """The upper confidence bound of each arm, ``(K,)`` (line 9 of Algorithm 1)."""
        mean, width = self.mean_and_width(context)
        return mean + self.alpha * width


class LinUCBReference:
    """Algorithm 1 as it is printed: for reading, and to compare ``LinUCB`` with. O(K d³)."""

    def __init__(self, num_arms: int, context_dim: int, alpha: float, ridge: float) -> None:
        self.alpha = alpha
        self.A = [ridge * np.eye(context_dim) for _ in range(num_arms)]
        self.b = [np.zeros(context_dim) for _ in range(num_arms)]

    def scores(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """p_{t,a} for each arm a, ``(K,)``."""
        p = []
        for A, b in zip(self.A, self.b):
            theta = np.linalg.solve(A, b)  # θ = A⁻¹ b
            width = np.sqrt(x @ np.linalg.solve(A, x))  # √(xᵀ A⁻¹ x)
            p.append(theta @ x + self.alpha * width)
        return np.array(p)

    def update(self, x: NDArray[np.float64], arm: int, reward: float) -> None:
        """A ← A + x xᵀ, b ← b + r x."""
        self.A[arm] = self.A[arm] + np.outer(x, x)
        self.b[arm] = self.b[arm] + reward * x
