"""AdamW Schedule-Free: averaging in place of a schedule, as the paper's equations and fast.

Chapter: ``119_large_scale_training/2_optimizers``.

Paper: Defazio et al. (2024), *The Road Less Scheduled*, Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from dlcourse.large_scale_training.optimizers._elementwise import (
    ElementwiseOptimizer,
    Implementation,
    local,
    number,
    state_dtype,
)

__all__ = ["AdamWScheduleFree", "ScheduleFreeReference"]


@dataclass
class ScheduleFreeReference:
    """AdamW Schedule-Free for one tensor, with the paper's three sequences all stored.

    Gradients are asked for at ``y``, the model is evaluated at ``x``, the steps are taken by
    ``z``. ``AdamWScheduleFree`` computes the same, and stores one tensor less.

    Args:
        x: the initial parameter, any shape; ``y`` and ``z`` start there too.

    Source: Defazio et al. (2024), Algorithm 1. Warm-up enters the averaging weights as the
    largest rate so far, squared, as in the authors' code.
    """

    x: Tensor
    lr: float = 0.0025
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup_steps: int = 0
    k: int = 0
    lr_max: float = 0.0
    weight_sum: float = 0.0
    y: Tensor = field(init=False)
    z: Tensor = field(init=False)
    v: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.x = self.x.detach().clone()
        self.y, self.z, self.v = self.x.clone(), self.x.clone(), torch.zeros_like(self.x)

    def step(self, g: Tensor | None) -> None:
        """Take one step with the gradient ``g`` of the loss at ``y``.

        Without a gradient (None) the step counts, but nothing moves.
        """
        beta1, beta2 = self.betas
        self.k += 1
        # γ_t = γ min(1, t / T_warmup)
        lr = self.lr * min(1.0, self.k / max(1, self.warmup_steps))
        # c_t = w_t / Σ_{i≤t} w_i   with   w_t = (max_{i≤t} γ_i)²
        self.lr_max = max(self.lr_max, lr)
        self.weight_sum += self.lr_max**2
        c = self.lr_max**2 / self.weight_sum if self.weight_sum else 0.0
        if g is None:
            return

        # v_t = β₂ v_{t−1} + (1 − β₂) g_t²
        self.v = beta2 * self.v + (1 - beta2) * g**2
        # v̂_t = v_t / (1 − β₂ᵗ)
        v_hat = self.v / (1 - beta2**self.k)
        # z_t = z_{t−1} − γ_t (g_t / (√v̂_t + ε) + λ y_{t−1})
        self.z = self.z - lr * (g / (v_hat.sqrt() + self.eps) + self.weight_decay * self.y)
        # x_t = (1 − c_t) x_{t−1} + c_t z_t
        self.x = (1 - c) * self.x + c * self.z
        # y_t = (1 − β₁) z_t + β₁ x_t
        self.y = (1 - beta1) * self.z + beta1 * self.x


class AdamWScheduleFree(ElementwiseOptimizer):
    """AdamW without a learning-rate schedule: the averaging of the weights replaces it.

    Of the three sequences (see ``ScheduleFreeReference``) the parameter holds y while training
    and x while evaluating, the state holds z, and the third follows from
    y = (1 − β₁) z + β₁ x. So call ``train()`` before training and ``eval()`` before evaluating
    or saving the model, as one does with the model itself. It starts in train mode. The mode
    is part of the state dict, which may be saved in either, together with the model's.

    Args:
        params: parameters, or dicts of parameter groups with their own hyper-parameters.
        lr: learning rate γ; larger than AdamW's with a schedule (1 to 10 times).
        betas: β₁ in (0, 1] of the interpolation, β₂ in [0, 1) of the second moment. β₁ = 0 is
            Polyak averaging, where y = z and x could not be found again: refused. β₁ must not
            change during training, since x is found with it: torch's ``OneCycleLR`` needs
            ``cycle_momentum=False``.
        eps: ε, added to √v̂ (after the root and after the bias correction).
        weight_decay: λ, decoupled, and taken at y.
        warmup_steps: the rate is γ (k + 1) / warmup_steps at step k = 0, 1, …, then γ.
        implementation: how to compute it; see the package's table.

    The details follow the authors' code where the paper leaves them open. The averaging weight
    of step k is the largest rate so far, squared, over the sum of those. Only the second moment
    is bias-corrected, by 1 − β₂^(k + 1), inside the root: √(v / (1 − β₂^(k + 1))) + ε. The
    counter k is the group's, also for a parameter that had no gradient in some steps.

    State: two tensors, ``z`` and ``exp_avg_sq`` (the paper's v), per parameter, of the
    parameter's dtype, but float32 for bfloat16 and float16 parameters. Such parameters still
    round y, which is stored in them: keep them in float32 and use autocast. The names are
    those of the authors' code, and a state dict of theirs can be loaded.

    Raises:
        ValueError: a hyper-parameter is out of range, here or in a group's own.
        RuntimeError: in ``step``, in eval mode; for a sparse or complex gradient; no compiler.

    Source: Defazio et al. (2024), Algorithm 1.
    """

    state_names = ("z", "exp_avg_sq")
    settings = (
        *("lr", "betas", "eps", "weight_decay", "warmup_steps"),
        *("k", "lr_max", "weight_sum", "train_mode"),
    )
    changing_scalars = ("lr", "c", "r")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        *,
        implementation: Implementation = "auto",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "k": 0,
            "lr_max": 0.0,
            "weight_sum": 0.0,
            "train_mode": True,
        }
        super().__init__(params, defaults, implementation)

    @classmethod
    def _check(cls, group: dict[str, Any]) -> None:
        super()._check(group)
        beta1, beta2 = map(float, group["betas"])
        if not 0 < beta1 <= 1:
            raise ValueError(
                f"betas[0] must be in (0, 1], got {beta1}: at 0 the average x cannot be found "
                "again from y and z; for Polyak averaging use ScheduleFreeReference"
            )
        if not 0 <= beta2 < 1:
            raise ValueError(f"betas[1] must be in [0, 1), got {beta2}")
        if not 0 <= number(group, "eps") < math.inf:
            raise ValueError(f"eps must be finite and >= 0, got {group['eps']}")
        warmup = number(group, "warmup_steps")
        if not (0 <= warmup < math.inf and warmup == int(warmup)):
            raise ValueError(
                f"warmup_steps must be a whole number >= 0, got {group['warmup_steps']}"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, in the mode in which the others are."""
        if self.param_groups:
            mode = self.param_groups[0]["train_mode"]
            param_group = {**param_group, "train_mode": mode}
        super().add_param_group(param_group)

    def train(self) -> None:
        """Put y, where gradients are taken, into the parameters; nothing if it is there."""
        # y = (1 − β₁) z + β₁ x
        self._switch(train_mode=True, weight_of_z=lambda beta1: 1 - beta1)

    def eval(self) -> None:
        """Put the average x into the parameters; nothing if it is there."""
        # x = y / β₁ + (1 − 1/β₁) z
        self._switch(train_mode=False, weight_of_z=lambda beta1: 1 - 1 / beta1)

    @torch.no_grad()
    def _switch(self, *, train_mode: bool, weight_of_z: Callable[[float], float]) -> None:
        for group in self.param_groups:
            if group["train_mode"] != train_mode:
                weight = weight_of_z(float(group["betas"][0]))
                for p in group["params"]:
                    if "z" in self.state.get(p, ()):  # before the first step x = y = z
                        z = self.state[p]["z"]
                        p.copy_(torch.lerp(p.to(z.dtype), z, weight))
                group["train_mode"] = train_mode

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; returns what ``closure`` (which re-evaluates the loss) returns.

        A fresh optimizer at rate 0 that has nothing but zero gradients, and no closure, makes its
        state and counts no step: so ``torch.distributed.checkpoint`` asks for the state.

        Raises RuntimeError in eval mode, and for a sparse or complex gradient.
        """
        if closure is None and self._only_creates_state():
            for p in (p for group in self.param_groups for p in group["params"]):
                if p.grad is not None:
                    self.state[p].update(self._new_state(p))
            return None
        if not all(group["train_mode"] for group in self.param_groups):
            raise RuntimeError(
                "step() in eval mode: the parameters hold the average x, and the gradients "
                "would be of the wrong point. Call optimizer.train() before the forward pass"
            )
        return super().step(closure)

    def _only_creates_state(self) -> bool:
        """Whether this is the step by which ``get_state_dict`` fills a fresh optimizer.

        ``torch.distributed.checkpoint`` takes a step at rate 0 with zero gradients for that. It
        must work in eval mode too, and must not count: k would be one ahead for ever.
        """
        if self.state or any(number(group, "lr") for group in self.param_groups):
            return False
        gradients = [p.grad for g in self.param_groups for p in g["params"] if p.grad is not None]
        return bool(gradients) and not any(local(g).any() for g in gradients)

    def _new_state(self, p: Tensor) -> dict[str, Tensor]:
        dtype = state_dtype(p)
        return {
            "z": p.detach().to(dtype, copy=True),
            "exp_avg_sq": torch.zeros_like(p, dtype=dtype),
        }

    def _coefficients(self, group: dict[str, Any]) -> dict[str, float]:
        beta1, beta2 = map(float, group["betas"])
        group["k"] = int(group["k"]) + 1
        lr = number(group, "lr") * min(1.0, group["k"] / max(1, int(group["warmup_steps"])))
        # c = w_k / Σ w   with   w_k = (largest rate so far)²
        group["lr_max"] = max(float(group["lr_max"]), lr)
        weight = group["lr_max"] ** 2
        group["weight_sum"] = float(group["weight_sum"]) + weight
        return {
            "lr": lr,
            "c": weight / group["weight_sum"] if weight else 0.0,
            "beta1": beta1,
            "beta2": beta2,
            "r": math.sqrt(1 - beta2 ** group["k"]),
            "eps": number(group, "eps"),
            "weight_decay": number(group, "weight_decay"),
        }

    # With r = √(1 − β₂ᵗ), so that √v̂ = √v / r and
    #     u = g / (√v̂ + ε) + λ y = r g / (√v + r ε) + λ y
    # (one division for each element, where v̂ would need two), the two stored sequences move by
    #     y ← (1 − c) y + c z − γ (1 − β₁ (1 − c)) u
    #     z ← z − γ u
    # which follows from x ← (1 − c) x + c (z − γ u) and y = (1 − β₁) z + β₁ x.

    @staticmethod
    def _equations(
        y: Tensor, g: Tensor, z: Tensor, v: Tensor, *, lr: Tensor, c: Tensor, beta1: float,
        beta2: float, r: Tensor, eps: float, weight_decay: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        v = beta2 * v + (1 - beta2) * g * g
        u = r * g / (v.sqrt() + r * eps) + weight_decay * y
        y = y + c * (z - y) - lr * (1 - beta1 * (1 - c)) * u
        z = z - lr * u
        return y, z, v

    @staticmethod
    def _update_one(
        y: Tensor, g: Tensor, z: Tensor, v: Tensor, *, lr: float, c: float, beta1: float,
        beta2: float, r: float, eps: float, weight_decay: float,
    ) -> None:  # fmt: skip
        # The fused step walks memory as it lies.
        if not all(t.is_contiguous() for t in (y, g, z, v)):
            return AdamWScheduleFree._update_all(
                [y], [g], [z], [v], lr=lr, c=c, beta1=beta1, beta2=beta2, r=r, eps=eps,
                weight_decay=weight_decay,
            )  # fmt: skip
        # torch's fused Adam with its β₁ = 0 takes the steps of v and z in one pass over memory.
        # Its first moment is then the gradient itself, which it rewrites unchanged; at step ∞ it
        # corrects no bias: r is in the rate and in ε. With k = 1 − β₁ (1 − c), y follows from
        #     y ← (1 − c) y + (c − k) z + k z′,   z′ = z − γ u the new z.
        k = 1 - beta1 * (1 - c)
        if weight_decay != 0:
            z.sub_(y, alpha=lr * weight_decay)
        y.mul_(1 - c + (c - k) * lr * weight_decay).add_(z, alpha=c - k)
        step = torch.full((), math.inf, device=z.device)
        torch._fused_adamw_(
            [z], [g], [g], [v], [], [step], lr=lr * r, beta1=0.0, beta2=beta2, eps=eps * r,
            weight_decay=0.0, amsgrad=False, maximize=False,
        )  # fmt: skip
        y.add_(z, alpha=k)

    @staticmethod
    def _update_all(
        ys: list[Tensor], gs: list[Tensor], zs: list[Tensor], vs: list[Tensor], *, lr: float,
        c: float, beta1: float, beta2: float, r: float, eps: float, weight_decay: float,
    ) -> None:  # fmt: skip
        # The list us holds u / r, which spares a pass over memory; the steps multiply by r.
        torch._foreach_mul_(vs, beta2)
        torch._foreach_addcmul_(vs, gs, gs, value=1 - beta2)
        us = torch._foreach_sqrt(vs)
        torch._foreach_add_(us, eps * r)
        torch._foreach_reciprocal_(us)  # g / u would need a second list
        torch._foreach_mul_(us, gs)
        if weight_decay != 0:
            torch._foreach_add_(us, ys, alpha=weight_decay / r)
        torch._foreach_lerp_(ys, zs, c)
        torch._foreach_add_(ys, us, alpha=-lr * r * (1 - beta1 * (1 - c)))
        torch._foreach_sub_(zs, us, alpha=lr * r)
