"""Lion: the sign of a momentum, as the paper's equations and as a fast optimizer.

Chapter: ``119_large_scale_training/2_optimizers``.

Paper: Chen et al. (2023), *Symbolic Discovery of Optimization Algorithms*, Algorithm 2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from dlcourse.large_scale_training.optimizers._elementwise import (
    ElementwiseOptimizer,
    Implementation,
    number,
    state_dtype,
)

__all__ = ["Lion", "lion_step_reference"]


def lion_step_reference(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    *,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    weight_decay: float,
) -> tuple[Tensor, Tensor]:
    """One step of Lion as the paper writes it: the new parameter and the new momentum.

    Args:
        p: parameter, any shape.
        g: its gradient, same shape.
        m: momentum, same shape; zeros before the first step.

    Source: Chen et al. (2023), Algorithm 2.
    """
    # c_t = β₁ m_{t−1} + (1 − β₁) g_t
    c = beta1 * m + (1 - beta1) * g
    # θ_t = θ_{t−1} − η (sign(c_t) + λ θ_{t−1})
    p = p - lr * (torch.sign(c) + weight_decay * p)
    # m_t = β₂ m_{t−1} + (1 − β₂) g_t
    m = beta2 * m + (1 - beta2) * g
    return p, m


class Lion(ElementwiseOptimizer):
    """Lion: every element moves by exactly the learning rate, in the momentum's direction.

    The direction is the sign of β₁ m + (1 − β₁) g; the momentum that is kept decays with β₂;
    weight decay is decoupled: it shrinks the parameter and never meets the sign. Since the
    size of a step does not depend on the gradient's, Lion wants a learning rate 3 to 10 times
    smaller than AdamW's and a weight decay larger by the same factor (Chen et al., section 5).

    Args:
        params: parameters, or dicts of parameter groups with their own hyper-parameters.
        lr: learning rate η, also the length of each element's step.
        betas: β₁ of the step's direction and β₂ of the momentum, each in [0, 1).
        weight_decay: λ; a step shrinks the parameter by the factor 1 − ηλ.
        implementation: how to compute it; see the package's table.

    A gradient of NaN stops its element for good, and nothing else shows it: the momentum is NaN
    from then on, and the sign of NaN is 0. Check the loss or the gradients, for the weights stay
    finite (with AdamW they become NaN).

    State: one tensor ``exp_avg`` (the paper's m) per parameter, of the parameter's dtype, but
    float32 for bfloat16 and float16 parameters. Such parameters do not move at all where
    lr is below half of their spacing (bfloat16: about 0.004 times their size): keep them in
    float32 and use autocast.

    Raises:
        ValueError: a hyper-parameter is out of range, here or in a group's own.
        RuntimeError: in ``step``, for a sparse or complex gradient; where there is no compiler
            or no Triton for an implementation that needs it.

    Source: Chen et al. (2023), Algorithm 2.
    """

    implementations = ("auto", "loop", "foreach", "compiled", "triton")
    state_names = ("exp_avg",)
    settings = ("lr", "betas", "weight_decay")
    foreign_settings = ("eps", "momentum")  # Lion divides by nothing
    changing_scalars = ("lr",)

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        implementation: Implementation = "auto",
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        super().__init__(params, defaults, implementation)

    @classmethod
    def _check(cls, group: dict[str, Any]) -> None:
        super()._check(group)
        if not all(0 <= float(beta) < 1 for beta in group["betas"]):
            raise ValueError(f"betas must both be in [0, 1), got {group['betas']}")

    def _new_state(self, p: Tensor) -> dict[str, Tensor]:
        return {"exp_avg": torch.zeros_like(p, dtype=state_dtype(p))}

    def _coefficients(self, group: dict[str, Any]) -> dict[str, float]:
        beta1, beta2 = map(float, group["betas"])
        return {
            "lr": number(group, "lr"),
            "beta1": beta1,
            "beta2": beta2,
            "weight_decay": number(group, "weight_decay"),
        }

    _equations = staticmethod(lion_step_reference)

    @staticmethod
    def _update_one(
        p: Tensor, g: Tensor, m: Tensor, *, lr: float, beta1: float, beta2: float,
        weight_decay: float,
    ) -> None:  # fmt: skip
        c = torch.lerp(m, g, 1 - beta1)
        m.lerp_(g, 1 - beta2)  # here, while m and g are in the cache
        if weight_decay != 0:
            p.mul_(1 - lr * weight_decay)
        p.sub_(c.sign_(), alpha=lr)

    @staticmethod
    def _update_all(
        ps: list[Tensor], gs: list[Tensor], ms: list[Tensor], *, lr: float, beta1: float,
        beta2: float, weight_decay: float,
    ) -> None:  # fmt: skip
        directions = torch._foreach_lerp(ms, gs, 1 - beta1)
        torch._foreach_sign_(directions)
        if weight_decay != 0:
            torch._foreach_mul_(ps, 1 - lr * weight_decay)
        torch._foreach_add_(ps, directions, alpha=-lr)
        torch._foreach_lerp_(ms, gs, 1 - beta2)

    @classmethod
    def _update_kernel(
        cls, ps: list[Tensor], gs: list[Tensor], ms: list[Tensor], **scalars: float
    ) -> None:
        try:
            from dlcourse.large_scale_training.optimizers import _lion_triton
        except ImportError as error:
            raise RuntimeError(
                'implementation="triton" needs the package triton, which comes with torch for '
                'NVIDIA and AMD GPUs: use implementation="auto"'
            ) from error
        fits = [_lion_triton.fits(*tensors) for tensors in zip(ps, gs, ms)]
        kernel, rest = (
            [[t for t, fit in zip(tensors, fits) if fit == wanted] for tensors in (ps, gs, ms)]
            for wanted in (True, False)
        )
        if kernel[0]:
            _lion_triton.lion_step(*kernel, **scalars)
        if rest[0]:  # float64, or tensors that do not lie in memory alike
            cls._update_foreach([p.detach() for p in rest[0]], *rest[1:], **scalars)
