"""KoLeo: features that keep away from their nearest neighbour.

Chapter: ``120_self_supervised_learning/1b_dino``.

Papers:
    Sablayrolles et al. (2019), *Spreading Vectors for Similarity Search*.
    Oquab et al. (2024), *DINOv2: Learning Robust Visual Features without Supervision*.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcourse.self_supervised_learning.dino._shared import full_precision

__all__ = ["koleo_loss"]


def koleo_loss(x: Tensor, eps: float = 1e-8) -> Tensor:
    """How close each feature has its nearest neighbour in the batch: (B, D) → scalar.

        −1/B Σᵢ log minⱼ≠ᵢ ‖xᵢ − xⱼ‖   for features scaled to length 1

    Up to a factor and a constant, which training does not see, it is an estimate of minus the
    entropy of the features (Kozachenko and Leonenko 1987, hence the name), so making it small
    spreads them over the sphere. Give it one view of each image: the nearest neighbour of a view
    would be the other view.

    Raises ValueError for a batch of one, or features that are not (B, D).

    Source: Sablayrolles et al. (2019), section 3; Oquab et al. (2024), section 4.
    """
    if x.dim() != 2 or len(x) < 2:
        raise ValueError(
            f"KoLeo needs (B, D) with B >= 2, got {tuple(x.shape)}: one image has no neighbour"
        )
    with torch.autocast(x.device.type, enabled=False):  # a distance is a difference: float32
        x = F.normalize(full_precision(x), dim=-1)
        with torch.no_grad():  # on the sphere the nearest has the largest inner product
            similarity = x @ x.T
            similarity.fill_diagonal_(-2)
            nearest = similarity.argmax(1)
        distance = (x - x[nearest]).norm(dim=-1)  # (B,)
        return -(distance + eps).log().mean()
