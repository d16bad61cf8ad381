"""Standardisation whose mean and deviation are those of the training rows.

scikit-learn's ``StandardScaler``, by hand. The deviation divides by n, as scikit-learn's does;
pandas' ``std`` divides by n − 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks


class Standardizer:
    """z = (x − μ) / σ, column by column, with μ and σ learned by ``fit`` and by nothing else.

    A column that is constant in training has σ = 1, so that z = 0 there.

    Attributes:
        mean: μ, ``(d,)``, from ``fit`` on.
        scale: σ, ``(d,)``.
    """

    mean: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None

    def fit(self, x: ArrayLike) -> Standardizer:
        """Learn μ and σ of the training rows ``(n, d)``, n ≥ 1.

        Raises:
            TypeError: x holds something other than real numbers.
            ValueError: x has another shape or no row, or is not finite.
        """
        x = _checks.matrix(x, "x")
        n = len(x)
        if n == 0:
            raise ValueError("x has no row: there is nothing to learn a mean from")
        # μ = (1/n) Σ x      σ² = (1/n) Σ (x − μ)²
        mean, variance = x.mean(axis=0), x.var(axis=0)  # (d,), (d,)
        # A constant column's variance is rounding only; this bound is scikit-learn's.
        eps = np.finfo(np.float64).eps
        constant = variance <= n * eps * variance + (n * mean * eps) ** 2
        self.mean, self.scale = mean, np.where(constant, 1.0, np.sqrt(variance))
        return self

    def transform(self, x: ArrayLike) -> NDArray[np.float64]:
        """Standardise rows ``(n, d)``, be it one, with the training rows' μ and σ: ``(n, d)``.

        Raises:
            RuntimeError: before ``fit``.
            TypeError, ValueError: as ``fit``, or another number of columns than it saw.
        """
        if self.mean is None:
            raise RuntimeError("call fit with the training rows before transform")
        x = _checks.matrix(x, "x")
        if x.shape[1] != len(self.mean):
            raise ValueError(f"fit saw {len(self.mean)} columns, and x has {x.shape[1]}")
        return (x - self.mean) / self.scale
