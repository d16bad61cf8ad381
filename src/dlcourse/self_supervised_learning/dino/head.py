"""DINO's head: features to the scores of K prototypes.

Chapter: ``120_self_supervised_learning/1b_dino``.

Paper: Caron et al. (2021), *Emerging Properties in Self-Supervised Vision Transformers*.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.self_supervised_learning.dino._shared import full_precision
from dlcourse.self_supervised_learning.vision_transformer import initialize

__all__ = ["DINOHead"]


class DINOHead(nn.Module):
    """Features to the scores of K prototypes: (…, in_dim) → (…, out_dim), each in [−1, 1].

    An MLP with GELU down to a bottleneck; the bottleneck's vector is scaled to length 1 and
    compared with K prototypes of length 1. The comparison is a weight-normalised linear layer
    without bias whose gain is fixed at 1, so a score is a cosine: no prototype can win by growing.
    (A choice, which is the default of DINO's code; it says that a learned gain can do better and
    be less stable.) Lengths are computed in float32 whatever the weights' dtype.

    Args:
        in_dim: width of the encoder's features.
        out_dim: K, the number of prototypes.
        hidden_dim: width of the hidden layers.
        bottleneck_dim: width before the prototypes.
        layers: linear layers of the MLP, at least 1; with 1 there is no hidden layer.
        generator: draws the initial weights; by default torch's global generator.

    Raises ValueError for a size below 1.

    Source: Caron et al. (2021), section 3.1 and appendix C ("projection head").
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int = 65536,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        layers: int = 3,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = {
            "in_dim": in_dim,
            "out_dim": out_dim,
            "hidden_dim": hidden_dim,
            "bottleneck_dim": bottleneck_dim,
            "layers": layers,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.in_dim, self.out_dim = in_dim, out_dim
        widths = [in_dim, *[hidden_dim] * (layers - 1), bottleneck_dim]
        mlp: list[nn.Module] = []
        for width, following in itertools.pairwise(widths):
            mlp += [nn.Linear(width, following), nn.GELU()]
        self.mlp = nn.Sequential(*mlp[:-1])  # no GELU after the last
        self.prototypes = nn.Parameter(torch.empty(out_dim, bottleneck_dim))
        initialize(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        # In float16 the least length that a division may have would be 0.
        z = F.normalize(full_precision(self.mlp(x)), dim=-1)  # (…, bottleneck), length 1
        prototypes = F.normalize(full_precision(self.prototypes), dim=-1)  # (K, bottleneck)
        kind = self.prototypes.dtype
        return F.linear(z.to(kind), prototypes.to(kind))  # (…, K)
