"""Several networks of one shape as one: one batched product a layer (section 122.1a)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Ensemble(nn.Module):
    """``n`` independent networks with ReLU between their layers, computed side by side.

    All weights lie in one vector, ``flat``: an optimizer and a moving average touch one tensor.

    Args:
        sizes: widths of the layers, at least an input and an output.
        n: number of networks.
        generator: draws the start, uniform in ±1/√fan_in (as ``nn.Linear`` has it).

    Shapes: ``(B, sizes[0])`` for all, or ``(n, B, sizes[0])``, ``-> (n, B, sizes[-1])``.
    """

    def __init__(self, sizes: Sequence[int], n: int, generator: torch.Generator) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1 or n < 1:
            raise ValueError(f"need two sizes or more and n ≥ 1, got {tuple(sizes)} and n = {n}")
        self.sizes, self.n = tuple(sizes), n
        self.shapes = [
            shape
            for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True)
            for shape in ((n, fan_in, fan_out), (n, 1, fan_out))  # a weight and its bias
        ]
        lengths = [math.prod(shape) for shape in self.shapes]
        starts = itertools.accumulate(lengths[:-1], initial=0)
        self.places = [  # of a part in the vector: its shape, its strides, where it begins
            (shape, (shape[1] * shape[2], shape[2], 1), start)
            for shape, start in zip(self.shapes, starts, strict=True)
        ]
        drawn = []
        for k, length in enumerate(lengths):
            u = torch.rand(length, generator=generator, dtype=torch.float32)
            drawn.append((u * 2 - 1) / math.sqrt(sizes[k // 2]))
        self.flat = nn.Parameter(torch.cat(drawn))

    def parts(self, flat: Tensor) -> list[Tensor]:
        """Weight, bias, weight, bias, … as views of a vector like ``flat``."""
        return [flat.as_strided(*place) for place in self.places]

    def forward(self, x: Tensor) -> Tensor:
        return _Layers.apply(x, self.flat, self)

    def frozen(self, x: Tensor) -> Tensor:
        """The same, with a gradient for ``x`` and none for the weights, which saves its cost."""
        return _Layers.apply(x, self.flat.detach(), self)

    def readable(self, x: Tensor) -> Tensor:
        """The same, one network after another, as it is usually written."""
        parts, outputs = self.parts(self.flat), []
        last = len(self.sizes) - 2
        for i in range(self.n):
            h = x if x.ndim == 2 else x[i]  # (B, in)
            for k in range(last + 1):
                weight, bias = parts[2 * k][i], parts[2 * k + 1][i, 0]
                h = F.linear(h, weight.T, bias)  # (B, in) -> (B, out)
                h = F.relu(h) if k < last else h
            outputs.append(h)
        return torch.stack(outputs)


class _Layers(torch.autograd.Function):
    """All layers as one node of the graph: backpropagation by hand, one product a layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, flat: Tensor, net: Ensemble) -> Tensor:
        parts = net.parts(flat)
        hs = [x.expand(net.n, -1, -1) if x.ndim == 2 else x]  # (n, B, in)
        for k in range(0, len(parts), 2):
            h = torch.baddbmm(parts[k + 1], hs[-1], parts[k])  # h W + b
            hs.append(h.relu_() if k + 2 < len(parts) else h)
        ctx.net, ctx.shared = net, x.ndim == 2
        ctx.save_for_backward(flat, *hs[:-1])
        return hs[-1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        flat, *hs = ctx.saved_tensors
        parts = ctx.net.parts(flat)
        wants_x, wants_flat, _ = ctx.needs_input_grad
        grad = torch.empty_like(flat) if wants_flat else None
        grads = ctx.net.parts(grad) if wants_flat else []
        for k in reversed(range(len(hs))):
            if wants_flat:
                torch.bmm(hs[k].mT, g, out=grads[2 * k])  # ∂/∂W = hᵀ g
                torch.sum(g, 1, keepdim=True, out=grads[2 * k + 1])  # ∂/∂b
            if k or wants_x:
                g = torch.bmm(g, parts[2 * k].mT)  # ∂/∂h = g Wᵀ
            if k:
                # Through the ReLU, in place: g is this loop's own.
                torch.ops.aten.threshold_backward.grad_input(g, hs[k], 0, grad_input=g)
        if not wants_x:
            return None, grad, None
        return (g.sum(0) if ctx.shared else g), grad, None


class Critics(Ensemble):
    """``n`` networks Q(s, a): ``(B, obs_dim), (B, action_dim) -> (n, B)``."""

    def __init__(
        self, obs_dim: int, action_dim: int, hidden: Sequence[int], n: int,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__((obs_dim + action_dim, *hidden, 1), n, generator)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([obs, action], -1)).squeeze(-1)

    def frozen(self, obs: Tensor, action: Tensor) -> Tensor:  # type: ignore[override]
        return super().frozen(torch.cat([obs, action], -1)).squeeze(-1)

    def readable(self, obs: Tensor, action: Tensor) -> Tensor:  # type: ignore[override]
        return super().readable(torch.cat([obs, action], -1)).squeeze(-1)


class Actor(Ensemble):
    """One network from observations to ``outputs`` numbers: ``(B, obs_dim) -> (B, outputs)``."""

    def __init__(
        self, obs_dim: int, outputs: int, hidden: Sequence[int], generator: torch.Generator
    ) -> None:
        super().__init__((obs_dim, *hidden, outputs), 1, generator)

    def forward(self, obs: Tensor) -> Tensor:
        return super().forward(obs)[0]


@torch.no_grad()
def polyak(target: Ensemble, online: Ensemble, tau: float) -> None:
    """Move each target weight a part ``tau`` of the way: θ' ← (1 − τ) θ' + τ θ, in one call."""
    target.flat.lerp_(online.flat, tau)
