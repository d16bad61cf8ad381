"""Thompson sampling with linear rewards (Agrawal and Goyal 2013), one model an arm."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .ridge_arms import RidgeArms


class LinearThompsonSampling(RidgeArms):
    """Draw each arm's parameters from their posterior, and choose the best arm of the draw.

    With noise of standard deviation v and prior θ ~ N(0, v²/ridge · I) the posterior is
    N(A⁻¹b, v² A⁻¹). Only the score xᵀθ̃ of a draw θ̃ is needed, and that is N(xᵀθ, v² xᵀA⁻¹x):
    one normal number an arm in place of a draw in d dimensions, the same in distribution.

    Args:
        num_arms: K.
        context_dim: d.
        scale: v ≥ 0; 0 is greedy.
        ridge: λ > 0.
        seed: a number or a ``numpy.random.Generator``.

    In ``select_batch`` each context gets a draw of its own.
    """

    def __init__(
        self,
        num_arms: int,
        context_dim: int,
        scale: float = 1.0,
        ridge: float = 1.0,
        *,
        seed: int | np.random.Generator = 0,
    ) -> None:
        super().__init__(num_arms, context_dim, ridge, seed=seed)
        self.scale = _checks.finite(scale, "scale")

    def scores(self, context: ArrayLike) -> NDArray[np.float64]:
        """One draw of each arm's reward, ``(K,)``; uses the generator."""
        mean, width = self.mean_and_width(context)
        return mean + self.scale * width * self.rng.standard_normal(self.num_arms)

    def scores_by_parameters(self, context: ArrayLike) -> NDArray[np.float64]:
        """The readable form: draw θ̃ ~ N(θ, v² A⁻¹) for each arm, then xᵀθ̃. O(K d³)."""
        x = _checks.reals(context, (self.context_dim,), "context")
        factor = np.linalg.cholesky(self.inverse)  # A⁻¹ = L Lᵀ  (K, d, d)
        z = self.rng.standard_normal((self.num_arms, self.context_dim))
        drawn = self.theta + self.scale * np.einsum("kij,kj->ki", factor, z)  # θ̃  (K, d)
        return drawn @ x
