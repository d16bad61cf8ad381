"""Multinomial logistic regression by L-BFGS, for several targets and decays at once.

Chapter: ``120_self_supervised_learning`` (every section).

``logistic_probe`` fits one target, one decay after the other; the chapter's benchmark fits all of
them in one minimisation. Both call ``logistic_minimum``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["logistic_minimum", "principal_axes", "standard"]


def standard(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, (D,); ∞ for one that does not vary."""
    x = x.double()
    mean, scale = x.mean(0), x.std(0, correction=0)
    constant = scale <= 1e-6 * mean.abs()  # differences below float32's resolution are no signal
    return mean, torch.where(constant, torch.inf, scale)


def principal_axes(z: Tensor) -> tuple[Tensor, Tensor]:
    """Directions in which z (N, D) varies, (D, R), and the mean square along each, (R,)."""
    n, width = z.shape
    dual = width > n  # the smaller of two eigenvalue problems
    variance, axes = torch.linalg.eigh((z @ z.T if dual else z.T @ z) / n)
    keep = variance > 1e-10 * variance[-1]
    variance, axes = variance[keep], axes[:, keep]
    return (z.T @ axes / (n * variance).sqrt() if dual else axes), variance


@torch.no_grad()
def logistic_minimum(
    a: Tensor,
    variance: Tensor,
    targets: Sequence[Tensor],
    decays: Sequence[float],
    start: tuple[Tensor, Tensor],
    *,
    max_steps: int = 200,
    tolerance: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """Weights (R, L, C) and biases (L, C) of a logistic regression for each target and decay.

    For each target Y (N, c), one-hot, and each decay λ:

        min over W, b of  −(1/N) Σᵢ Yᵢ · log softmax(Wᵀ aᵢ + b) + (λ/2) ‖W‖²

    The problems have no unknown in common, so the minimum of their sum is each one's minimum. C
    counts the classes of all targets, one target after the other.

    Args:
        a: the features along their principal axes, (N, R), float64.
        variance: the mean square along each axis, (R,). Divided by the square root of its curvature
            at W = 0, each unknown has about the same scale, and L-BFGS needs few steps.
        targets: one-hot labels, (N, c) each.
        decays: L values of λ, positive.
        start: where to begin, in the shapes of the result.
        max_steps: of L-BFGS.
        tolerance: it stops where no entry of the (scaled) gradient is larger.
    """
    n, widths = len(a), [target.shape[1] for target in targets]
    wanted = torch.cat(list(targets), 1)[:, None]  # (N, 1, C)
    decay = torch.tensor(decays, dtype=a.dtype, device=a.device)[:, None]  # (L, 1)
    curvature = variance[:, None, None] / (sum(widths) / len(widths)) + decay  # (R, L, 1)
    unit = curvature.rsqrt()
    v = torch.cat([start[1][None], start[0] / unit])  # the unknowns: biases, scaled weights

    def loss() -> Tensor:
        w = unit * v[1:]  # (R, L, C)
        logits = torch.tensordot(a, w, 1) + v[0]  # (N, L, C)
        log_p = torch.cat([part.log_softmax(2) for part in logits.split(widths, 2)], 2)
        error = (log_p.exp() - wanted) / n  # d loss / d logits
        slope = torch.tensordot(a.T, error, 1) + decay * w
        v.grad = torch.cat([error.sum(0)[None], unit * slope])
        return -(log_p * wanted).sum() / n + (decay * w.square()).sum() / 2

    torch.optim.LBFGS(
        [v], max_iter=max_steps, history_size=20, tolerance_grad=tolerance,
        tolerance_change=1e-4 * tolerance, line_search_fn="strong_wolfe",
    ).step(loss)  # fmt: skip
    return unit * v[1:], v[0]
