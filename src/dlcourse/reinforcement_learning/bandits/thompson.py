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

    In ``select_batch`` each context gets a draw of its own. ``probabilities`` gives the chance
    of each arm, to be logged with the choice, before the next update.
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

    def probabilities(self, context: ArrayLike) -> NDArray[np.float64]:
        """The chance of each arm to be selected for this context now, ``(K,)``; no draw is made.

        The scores are independent normals of mean m_a and deviation s_a, so arm a wins with

            P(a) = ∫ N(t; m_a, s_a²) Π_{b≠a} Φ((t − m_b) / s_b) dt

        By Gauss–Legendre in panels no wider than 3 of any deviation that matters there; the error
        is below 1e-10. Arms without width (a context of zeros, or a scale of 0) are as ``select``
        has them: the best of them alone can win, and equal ones have the same chance.

        Raises:
            ValueError: as ``mean_and_width``.
        """
        from scipy.special import log_ndtr  # here, as nothing else of the bandits needs SciPy

        mean, width = self.mean_and_width(context)
        deviation = self.scale * width
        p = np.zeros(self.num_arms)
        fixed = deviation <= 1e-12 * max(1.0, np.abs(mean).max())  # a tie's tolerance
        m, s = mean[~fixed], deviation[~fixed]
        floor = -np.inf  # the best score that does not vary
        if fixed.any():
            floor = mean[fixed].max()
            best = fixed & (mean >= floor - 1e-12 * max(1.0, abs(floor)))
            p[best] = np.exp(log_ndtr((floor - m) / s).sum()) / best.sum()
        if len(m):
            t, weight = _nodes(m, s, floor)
            z = (t[:, None] - m) / s  # (n, arms)
            log_below = log_ndtr(z)
            log_density = -0.5 * z**2 - np.log(s * np.sqrt(2 * np.pi))
            others = log_below.sum(1, keepdims=True) - log_below  # log Π_{b≠a} Φ_b
            p[~fixed] = weight @ np.exp(log_density + others)
        return p / p.sum()

    def scores_by_parameters(self, context: ArrayLike) -> NDArray[np.float64]:
        """The readable form: draw θ̃ ~ N(θ, v² A⁻¹) for each arm, then xᵀθ̃. O(K d³)."""
        x = _checks.reals(context, (self.context_dim,), "context")
        factor = np.linalg.cholesky(self.inverse)  # A⁻¹ = L Lᵀ  (K, d, d)
        z = self.rng.standard_normal((self.num_arms, self.context_dim))
        drawn = self.theta + self.scale * np.einsum("kij,kj->ki", factor, z)  # θ̃  (K, d)
        return drawn @ x


def _nodes(m: NDArray, s: NDArray, floor: float) -> tuple[NDArray, NDArray]:
    """Points and weights that integrate over all t at which a normal of m, s may be the largest."""
    edges = np.unique(m[:, None] + s[:, None] * np.arange(-9, 10, 2))
    low, high = max(floor, (m - 9 * s).max()), edges[-1]
    if low >= high:
        return np.zeros(0), np.zeros(0)
    kept = [low]
    for edge in edges[edges > low]:
        if edge - kept[-1] >= s.min():  # closer ones are not needed
            kept.append(edge)
    ends = np.append(kept, high) if kept[-1] < high else np.array(kept)
    x, w = np.polynomial.legendre.leggauss(20)  # on [−1, 1]
    half = np.diff(ends)[:, None] / 2
    return (ends[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()
