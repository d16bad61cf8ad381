"""What a contrastive loss does to the sphere: alignment and uniformity.

Chapter: ``120_self_supervised_learning/1a_contrastive``.

Paper: Wang, Isola (2020), *Understanding Contrastive Representation Learning through Alignment and
Uniformity on the Hypersphere*.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcourse.self_supervised_learning.contrastive.nt_xent import check_pairs, directions

__all__ = ["alignment", "uniformity"]


def alignment(z1: Tensor, z2: Tensor, alpha: float = 2.0) -> Tensor:
    """Mean distance between the views of one image, to the power α: a scalar in [0, 2^α].

    0 says that the representation does not change with the augmentation.

    Args:
        z1, z2: (B, D) floating point; normalised inside, in float32 or wider.
        alpha: α > 0.

    Raises TypeError or ValueError as ``nt_xent`` does; ValueError for α <= 0.

    Source: Wang, Isola (2020), equation for L_align in section 4.
    """
    check_pairs(z1, z2)
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha:g}")
    return (directions(z1) - directions(z2)).norm(dim=1).pow(alpha).mean()


def uniformity(z: Tensor, t: float = 2.0) -> Tensor:
    """Log of the mean of exp(−t · squared distance) over all pairs of images: a scalar <= 0.

    0 says that all points are one; points spread evenly over a sphere of many dimensions come
    near −2t.

    Args:
        z: (B, D) floating point, B >= 2, one view of each image; normalised inside.
        t: > 0.

    Raises TypeError or ValueError as ``nt_xent`` does; ValueError for t <= 0.

    Source: Wang, Isola (2020), equation for L_uniform in section 4.
    """
    check_pairs(z, z)
    if not t > 0:
        raise ValueError(f"t must be positive, got {t:g}")
    squared = torch.pdist(directions(z)).square()  # (B (B − 1) / 2,)
    return torch.logsumexp(-t * squared, 0) - math.log(len(squared))
