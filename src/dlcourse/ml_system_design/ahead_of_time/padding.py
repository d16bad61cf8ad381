"""Batches of few sizes: a captured graph or a static kernel is made for one shape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def pad_batches(function: Callable[[Tensor], Tensor], sizes: Sequence[int]) -> Callable:
    """A function of batches up to the largest of ``sizes``; it calls ``function`` with those only.

    A batch is padded with copies of its last row, up to the next size, and the answers to the
    copies are dropped: ``(n, …) -> (n, …)``. An answer must depend on its own row alone.

    Raises ValueError where ``sizes`` are not positive and ascending, or a batch has no row or more
    than the largest.
    """
    sizes = list(sizes)
    if not sizes or sizes[0] < 1 or sizes != sorted(set(sizes)):
        raise ValueError(f"sizes must be positive and ascending: got {sizes}")

    def padded(x: Tensor) -> Tensor:
        n = len(x)
        if not 1 <= n <= sizes[-1]:
            raise ValueError(f"a batch must have 1 to {sizes[-1]} rows: got {n}")
        missing = sizes[bisect_left(sizes, n)] - n
        if missing:
            x = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])
        return function(x)[:n]

    return padded
