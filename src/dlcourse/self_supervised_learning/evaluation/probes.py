"""Linear classifiers on frozen features: logistic regression, and ridge regression.

Chapter: ``120_self_supervised_learning`` (every section).

"Linear probe" means logistic regression in nearly all papers. Ridge regression of one-hot labels is
solved in closed form, so it is quicker; but it fits 0 and 1, and fails where classes lie in a row:
a middle class is then no output's largest. Both are given, and each is called by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcourse.datasets import Split
from dlcourse.self_supervised_learning.evaluation._checks import check_splits
from dlcourse.self_supervised_learning.evaluation.logistic_regression import (
    logistic_minimum,
    principal_axes,
    standard,
)

__all__ = ["Probe", "linear_probe", "logistic_probe", "ridge_probe"]


class Probe(NamedTuple):
    """A linear classifier on features, its accuracies, and the decay that was chosen."""

    weight: Tensor  # (D, classes), float64
    bias: Tensor  # (classes,)
    decay: float
    validation_accuracy: float
    test_accuracy: float

    def predict(self, x: Tensor) -> Tensor:
        """The class of each row of features: (N, D) → (N,)."""
        return (x.double() @ self.weight + self.bias).argmax(1)


@torch.no_grad()
def logistic_probe(
    train: Split,
    validation: Split,
    test: Split,
    *,
    decays: Sequence[float] = tuple(10.0**e for e in range(-4, 2)),
    max_steps: int = 200,
) -> Probe:
    """Multinomial logistic regression on standardised features, by L-BFGS.

    With z the features less their mean, over their standard deviation (both of ``train``; a
    feature that does not vary counts as 0):

        min over W, b of  −(1/N) Σᵢ log softmax(Wᵀ zᵢ + b)[yᵢ] + (λ/2) ‖W‖²

    λ is chosen by accuracy on ``validation`` (of equal ones, the largest): its labels are used for
    that, and for nothing else. ``test`` is predicted once, after that.

    Args:
        train, validation, test: features (N, D), with integer labels 0, 1, …; on any device.
        decays: the values of λ to try, positive. scikit-learn's ``C`` is 1 / (N λ).
        max_steps: of L-BFGS for each λ; it stops sooner where the gradient vanishes.

    Raises ValueError for features that are not finite or not of one width, for a ``train`` of a
    single class, for decays that are not positive, and max_steps below 1.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    train, validation, test = _checked(train, validation, test, decays)
    mean, scale = standard(train.x)
    z = (train.x.double() - mean) / scale  # (N, D)
    present, y = train.y.unique(return_inverse=True)  # classes that train lacks get no weight
    n, classes = len(z), len(present)
    one_hot = F.one_hot(y, classes).double()

    # Axes in which train does not vary are left out: the best W has no part there.
    axes, variance = principal_axes(z)  # (D, R), (R,)
    a = z @ axes  # (N, R)
    found = {}
    w = torch.zeros(a.shape[1], 1, classes, dtype=z.dtype, device=z.device)  # along the axes
    b = one_hot.mean(0).log()[None]
    for decay in sorted(decays, reverse=True):  # each starts where the one before ended
        w, b = logistic_minimum(a, variance, [one_hot], [decay], (w, b), max_steps=max_steps)
        found[decay] = w[:, 0], b[0]

    def probe(w: Tensor, b: Tensor, decay: float) -> Probe:
        weight = z.new_zeros(z.shape[1], int(present.max()) + 1)
        bias = z.new_full((weight.shape[1],), -torch.inf)  # is never the largest
        weight[:, present] = axes @ w / scale[:, None]  # for features as they are
        bias[present] = b - mean @ weight[:, present]
        return Probe(weight, bias, float(decay), 0.0, 0.0)

    probes = [probe(*found[decay], decay) for decay in sorted(decays)]
    return _best(probes, validation, test)


@torch.no_grad()
def ridge_probe(
    train: Split,
    validation: Split,
    test: Split,
    *,
    decays: Sequence[float] = tuple(10.0**e for e in range(-4, 3)),
) -> Probe:
    """Ridge regression of one-hot labels on standardised features, in closed form.

    With z the features less their mean, over their standard deviation (both of ``train``; a
    feature that does not vary counts as 0), and Y the one-hot labels less their mean:

        min over W of  ‖z W − Y‖² / N + λ ‖W‖²      ⇒      W = (zᵀz / N + λ I)⁻¹ zᵀY / N

    The largest output is the prediction. λ is chosen by accuracy on ``validation`` (of equal ones,
    the largest): its labels are used for that, and for nothing else. ``test`` is predicted once,
    after that.

    Args:
        train, validation, test: features (N, D), with integer labels 0, 1, ….
        decays: the values of λ to try, positive. scikit-learn's ``Ridge`` calls N·λ ``alpha``.

    Raises ValueError for features that are not finite or not of one width, for a ``train`` of a
    single class, and for decays that are not positive.
    """
    train, validation, test = _checked(train, validation, test, decays)
    mean, scale = standard(train.x)
    z = (train.x.double() - mean) / scale  # (N, D)
    n, width = z.shape
    one_hot = F.one_hot(train.y).double()
    y = one_hot - one_hot.mean(0)

    # The smaller of two systems: (zᵀz / N + λ I)⁻¹ zᵀ = zᵀ (z zᵀ / N + λ I)⁻¹.
    dual = width > n
    gram = (z @ z.T if dual else z.T @ z) / n
    target = (y if dual else z.T @ y) / n
    diagonal = gram.diagonal().clone()
    probes = []
    for decay in sorted(decays):
        gram.diagonal().copy_(diagonal + decay)
        solution = torch.cholesky_solve(target, torch.linalg.cholesky(gram))
        w = z.T @ solution if dual else solution
        weight = w / scale[:, None]  # for features as they are: z W = x W / s − mean W / s
        probes.append(Probe(weight, one_hot.mean(0) - mean @ weight, float(decay), 0.0, 0.0))
    return _best(probes, validation, test)


def linear_probe(
    train: Split,
    validation: Split,
    test: Split,
    *,
    decays: Sequence[float] = tuple(10.0**e for e in range(-4, 3)),
) -> Probe:
    """``ridge_probe`` under its former name. It is *not* the logistic regression that papers call
    a linear probe: that is ``logistic_probe``.

    Kept, with its results, for code that was written with it.
    """
    return ridge_probe(train, validation, test, decays=decays)


def _checked(train: Split, validation: Split, test: Split, decays: Sequence[float]) -> list[Split]:
    splits = check_splits(train, validation, test)
    if not decays or not min(decays) > 0:
        raise ValueError(f"decays must be positive numbers, at least one: got {tuple(decays)}")
    if len(train.y.unique()) < 2:
        raise ValueError("train holds a single class: there is nothing to tell apart")
    return splits


def _best(probes: list[Probe], validation: Split, test: Split) -> Probe:
    """The best on validation, of equal ones the last; then, once, its accuracy on test."""
    best = None
    for probe in probes:
        probe = probe._replace(validation_accuracy=_accuracy(probe, validation))
        if best is None or probe.validation_accuracy >= best.validation_accuracy:
            best = probe
    return best._replace(test_accuracy=_accuracy(best, test))


def _accuracy(probe: Probe, split: Split) -> float:
    return (probe.predict(split.x) == split.y).double().mean().item()
