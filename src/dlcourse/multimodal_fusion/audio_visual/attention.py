"""Attention from one sequence to another: readable, and fast.

Paper: Vaswani et al. (2017), *Attention Is All You Need*, equation (1) and section 3.2.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def attend(
    q: Tensor, k: Tensor, v: Tensor, key_padding: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention of one sequence over another, every step in sight.

    Args:
        q: queries ``(B, H, Tq, d)``.
        k: keys ``(B, H, Tk, d)``.
        v: values ``(B, H, Tk, e)``.
        key_padding: bool ``(B, Tk)``, True where a key is padding and must not be seen.

    Returns:
        What each query has read, ``(B, H, Tq, e)``, and the weights, ``(B, H, Tq, Tk)``. Where all
        keys of an example are padding, both are 0.
    """
    # scores = q kᵀ / √d
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, Tq, Tk)
    if key_padding is not None:
        hidden = key_padding[:, None, None, :]
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    # weights = softmax over the keys
    weights = scores.softmax(-1)
    if key_padding is not None:
        weights = weights.masked_fill(hidden, 0.0)  # matters only where all keys are hidden
    # out = weights · v
    return weights @ v, weights


class CrossAttention(nn.Module):
    """Multi-head attention in which ``x`` asks and ``y`` answers; with ``y = x``, self-attention.

    The batch is the first dimension, always. With the weights of ``nn.MultiheadAttention(dim,
    num_heads, batch_first=True)`` it gives the same numbers; it differs where all keys of an
    example are padding: the answer is then the bias of ``out``, not NaN.

    Args:
        dim: width of queries, answers, and of ``x`` and ``y``.
        num_heads: a divisor of ``dim``.

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads must divide dim: got {num_heads} heads for width {dim}")
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def _project(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def heads(z: Tensor) -> Tensor:  # (B, T, dim) -> (B, H, T, dim / H)
            return z.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        return heads(self.query(x)), heads(self.key(y)), heads(self.value(y))

    def forward(self, x: Tensor, y: Tensor, key_padding: Tensor | None = None) -> Tensor:
        """What ``x`` (B, Tx, dim) reads in ``y`` (B, Ty, dim): ``(B, Tx, dim)``.

        ``key_padding``: bool ``(B, Ty)``, True for what must not be seen.

        Raises ValueError for shapes that do not belong together.
        """
        check_sequences(x, y, key_padding)
        q, k, v = self._project(x, y)
        mask = None
        if key_padding is not None:
            empty = key_padding.all(1, keepdim=True)  # (B, 1)
            mask = (~key_padding | empty)[:, None, None, :]  # True: may be seen
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, H, Tx, dim / H)
        if key_padding is not None:
            out = out.masked_fill(empty[:, :, None, None], 0.0)
        return self.out(out.transpose(1, 2).flatten(2))

    def readable(
        self, x: Tensor, y: Tensor, key_padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same by ``attend``, and the weights ``(B, H, Tx, Ty)`` with it."""
        check_sequences(x, y, key_padding)
        out, weights = attend(*self._project(x, y), key_padding)
        return self.out(out.transpose(1, 2).flatten(2)), weights


def check_sequences(x: Tensor, y: Tensor, key_padding: Tensor | None) -> None:
    """Raises ValueError unless x and y are sequences of one batch, and the mask is y's."""
    if x.dim() != 3 or y.dim() != 3 or x.shape[0] != y.shape[0]:
        raise ValueError(
            "need two sequences (batch, time, width) of one batch size, got "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    if key_padding is not None and (
        key_padding.dtype != torch.bool or key_padding.shape != y.shape[:2]
    ):
        raise ValueError(
            f"padding must be bool {tuple(y.shape[:2])}, True where there is nothing: got "
            f"{key_padding.dtype} {tuple(key_padding.shape)}"
        )
