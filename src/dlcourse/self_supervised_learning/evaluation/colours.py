"""Features to look at: their principal components as colours.

Chapter: ``120_self_supervised_learning`` (every section).

Paper: Oquab et al. (2024), *DINOv2: Learning Robust Visual Features without Supervision*, figure 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pca_rgb"]


@torch.no_grad()
def pca_rgb(tokens: Tensor, reference: Tensor | None = None) -> Tensor:
    """Features as colours: (B, N, D) → (B, N, 3) in [0, 1].

    Red, green and blue are the first three principal components over all patches of all images,
    each scaled so that its 2nd … 98th percentile fills [0, 1]. The sign of a component is chosen
    so that its largest loading is positive.

    Args:
        reference: (B', N', D), from which components and percentiles are taken instead, so that
            several pictures have the same colours.

    Raises ValueError for tokens that are not (B, N, D) with D >= 3, or not of one width.

    Source of the picture: Oquab et al. (2024), *DINOv2*, figure 1 (without its thresholds).
    """
    reference = tokens if reference is None else reference
    for x in (tokens, reference):
        if x.dim() != 3 or x.shape[2] < 3 or x.shape[2] != tokens.shape[2]:
            raise ValueError(
                "tokens must be (B, N, D) with D >= 3, and reference as wide: got "
                f"{tuple(tokens.shape)} and {tuple(reference.shape)}"
            )
    x = reference.flatten(0, 1).double()
    mean = x.mean(0)
    components = torch.linalg.eigh((x - mean).T @ (x - mean)).eigenvectors[:, -3:].flip(1)  # (D, 3)
    largest = components.abs().argmax(0, keepdim=True)
    components = components * components.gather(0, largest).sign()
    scores = ((x - mean) @ components).sort(0).values
    low, high = _percentile(scores, 0.02), _percentile(scores, 0.98)  # (3,)
    scaled = ((tokens.double() - mean) @ components - low) / (high - low).clamp_min(1e-12)
    return scaled.clamp(0, 1).float()


def _percentile(ordered: Tensor, share: float) -> Tensor:
    """The value below which ``share`` of the rows lie, between two rows: (N, 3) → (3,).

    ``torch.quantile`` does the same for at most 2²⁴ values.
    """
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below].lerp(ordered[above], place - below)
