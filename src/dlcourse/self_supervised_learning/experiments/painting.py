"""What can be painted without a network: guesses that a painter of hidden patches has to beat.

Chapter: ``120_self_supervised_learning`` (sections 1c and 2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlcourse.self_supervised_learning.patches import patch_grid, patchify, unpatchify, widened

__all__ = ["linear_guess", "smooth_guess"]


def linear_guess(
    known: Tensor, images: Tensor, mask: Tensor, patch_size: int, decay: float = 0.1
) -> Tensor:
    """Hidden patches as the best linear function of the visible pixels: (B, C, H, W).

    With mean μ and covariance Σ of the pixels of the known images, hidden pixels h are painted as
    μ_h + Σ_hv (Σ_vv + λ I)⁻¹ (x_v − μ_v): their conditional mean, if pixels were normal.

    Args:
        known: (M, C, H, W), to learn mean and covariance from.
        images: (B, C, H, W). Their visible patches stay as they are.
        mask: (B, N), 1 where a patch is hidden.
        patch_size: side of a patch in pixels.
        decay: λ over the mean variance of a pixel.

    Raises ValueError for a mask of another shape.
    """
    table = widened(patchify(known, patch_size)).flatten(1)  # (M, N · p·p·C)
    patches = widened(patchify(images, patch_size))  # (B, N, p·p·C)
    _check(mask, patches)
    mean = table.mean(0)
    covariance = (table - mean).T @ (table - mean) / len(table)
    ridge = decay * covariance.diagonal().mean() * torch.eye(len(mean)).to(covariance)
    painted = patches.flatten(1).clone()
    for row, gone in zip(painted, mask.bool(), strict=True):
        hidden = gone.repeat_interleave(patches.shape[2])  # of pixels
        seen = ~hidden
        square = (covariance + ridge)[seen][:, seen]
        weights = torch.cholesky_solve(
            (row - mean)[seen, None], torch.linalg.cholesky(square)
        )  # (visible pixels, 1)
        row[hidden] = mean[hidden] + (covariance[hidden][:, seen] @ weights)[:, 0]
    painted = painted.view_as(patches).to(images.dtype)
    return unpatchify(painted, patch_size, tuple(images.shape[-2:]))


def smooth_guess(images: Tensor, mask: Tensor, patch_size: int, width: float) -> Tensor:
    """Hidden patches in one colour each: that of the visible ones, weighted by their nearness.

    Weights are exp(−distance² / 2 width²), in patches. Arguments, result and errors are those of
    ``linear_guess``.
    """
    patches = widened(patchify(images, patch_size))  # (B, N, p·p·C)
    _check(mask, patches)
    rows, columns = patch_grid(tuple(images.shape[-2:]), patch_size)
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(patches)
    near = torch.exp(-torch.cdist(places, places).square() / (2 * width**2))
    weights = near * ~mask.bool()[:, None]  # (B, N, N)
    by_pixel = patches.unflatten(2, (-1, images.shape[1]))  # (B, N, p·p, C)
    colour = weights @ by_pixel.mean(2) / weights.sum(2, keepdim=True)  # (B, N, C)
    guess = colour.repeat(1, 1, by_pixel.shape[2])
    painted = torch.where(mask.bool()[..., None], guess, patches).to(images.dtype)
    return unpatchify(painted, patch_size, tuple(images.shape[-2:]))


def _check(mask: Tensor, patches: Tensor) -> None:
    if mask.shape != patches.shape[:2]:
        raise ValueError(
            f"the mask must be (B, N) = {tuple(patches.shape[:2])}, got {tuple(mask.shape)}"
        )
