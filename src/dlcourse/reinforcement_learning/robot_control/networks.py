"""Several networks of one shape as one: one batched product a layer (section 122.1a)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Ensemble(nn.Module):
    """``n`` independent networks with ReLU between their layers, computed side by side.

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
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = 1 / math.sqrt(fan_in)
            for kept, shape in (
                (self.weights, (n, fan_in, fan_out)), (self.biases, (n, 1, fan_out))
            ):  # fmt: skip
                drawn = torch.rand(shape, generator=generator) * 2 * bound - bound
                kept.append(nn.Parameter(drawn))

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(self.n, -1, -1) if x.ndim == 2 else x  # (n, B, in)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x.relu() if k else x, weight)
        return x

    def readable(self, x: Tensor) -> Tensor:
        """The same, one network after another, as it is usually written."""
        outputs = []
        for i in range(self.n):
            h = x if x.ndim == 2 else x[i]  # (B, in)
            for k in range(len(self.sizes) - 1):
                h = F.linear(h, self.weights[k][i].T, self.biases[k][i, 0])
                if k < len(self.sizes) - 2:
                    h = F.relu(h)
            outputs.append(h)
        return torch.stack(outputs)


class Critics(Ensemble):
    """``n`` networks Q(s, a): ``(B, obs_dim), (B, action_dim) -> (n, B)``."""

    def __init__(
        self, obs_dim: int, action_dim: int, hidden: Sequence[int], n: int,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__((obs_dim + action_dim, *hidden, 1), n, generator)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([obs, action], -1)).squeeze(-1)

    def readable(self, obs: Tensor, action: Tensor) -> Tensor:  # type: ignore[override]
        return super().readable(torch.cat([obs, action], -1)).squeeze(-1)


class Actor(Ensemble):
    """One network from observations to ``outputs`` numbers: ``(B, obs_dim) -> (B, outputs)``."""

    def __init__(
        self, obs_dim: int, outputs: int, hidden: Sequence[int], generator: torch.Generator
    ) -> None:
        super().__init__((obs_dim, *hidden, outputs), 1, generator)

    def forward(self, obs: Tensor) -> Tensor:
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            obs = torch.addmm(bias[0], obs.relu() if k else obs, weight[0])
        return obs


@torch.no_grad()
def polyak(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move each target weight a part ``tau`` of the way: θ' ← (1 − τ) θ' + τ θ, in one call."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
