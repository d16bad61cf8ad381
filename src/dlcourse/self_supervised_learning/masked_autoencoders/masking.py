"""A random subset of each image's patches.

Chapter: ``120_self_supervised_learning/2_masked_autoencoders``.

Paper: He et al. (2022), *Masked Autoencoders Are Scalable Vision Learners*, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["random_masking", "shuffled", "take", "visible_count"]


def visible_count(n: int, mask_ratio: float) -> int:
    """How many of ``n`` patches stay visible: int(n · (1 − mask_ratio)).

    Raises ValueError when mask_ratio is not inside (0, 1), or nothing would be visible or hidden.
    """
    if not 0 < mask_ratio < 1:
        raise ValueError(f"mask_ratio is the share of hidden patches, inside (0, 1): {mask_ratio}")
    count = int(n * (1 - mask_ratio))
    if not 0 < count < n:
        raise ValueError(
            f"mask_ratio {mask_ratio} leaves {count} of {n} patches visible: at least one must be "
            "visible and one hidden; use another ratio or smaller patches"
        )
    return count


def shuffled(
    b: int,
    n: int,
    device: torch.device,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """A random order of ``n`` patches for each of ``b`` images, (B, N): that of their noise."""
    if noise is None:
        noise = torch.rand(b, n, generator=generator, device=device)
    if noise.shape != (b, n):
        raise ValueError(
            f"noise must be (B, N) = ({b}, {n}), got {tuple(noise.shape)}: "
            "each image is shuffled on its own"
        )
    return noise.argsort(1)


def take(x: Tensor, ids: Tensor) -> Tensor:
    """Row ids[b, i] of x[b]: (B, N, D), (B, K) → (B, K, D)."""
    return x.gather(1, ids[..., None].expand(-1, -1, x.shape[2]))


def random_masking(
    x: Tensor,
    mask_ratio: float,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep a random subset of each image's patches.

    Args:
        x: (B, N, D), one row a patch.
        mask_ratio: share of the patches to hide; int(N · (1 − mask_ratio)) stay visible.
        generator: draws the subsets, on the device of ``x``; by default torch's global one.
        noise: (B, N), instead of drawing: the patches with the least noise stay visible.

    Returns:
        visible: (B, N', D), the patches that are kept, in random order.
        mask: (B, N), in the original order: 1 where a patch is hidden, 0 where it is visible.
        ids_restore: (B, N), undoes the shuffling: with y = [visible, hidden ones], patch i of
            image b is y[b, ids_restore[b, i]].

    Raises:
        ValueError: x is not (B, N, D), mask_ratio is not inside (0, 1), nothing would be visible
            or hidden, or noise has another shape than (B, N).

    Source: He et al. (2022), section 3, *Simple implementation*.
    """
    if x.dim() != 3:
        raise ValueError(f"x must be (B, N, D), got {tuple(x.shape)}: pass patches, not images")
    b, n, _ = x.shape
    keep = visible_count(n, mask_ratio)
    ids_shuffle = shuffled(b, n, x.device, generator, noise)
    ids_restore = ids_shuffle.argsort(1)  # the inverse permutation
    visible = take(x, ids_shuffle[:, :keep])
    mask = (ids_restore >= keep).float()  # whoever came after place N' was hidden
    return visible, mask, ids_restore
