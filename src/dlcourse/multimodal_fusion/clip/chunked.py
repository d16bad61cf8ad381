"""CLIP's loss in chunks: the same value and gradients, and no matrix of B × B numbers in memory.

Chapter: ``121_multimodal_fusion/2a_clip``.

Paper: Radford et al. (2021), *Learning Transferable Visual Models From Natural Language
Supervision* (the loss). The gradient is that of two softmax cross-entropies.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from dlcourse.multimodal_fusion.clip.checks import check_features, widened

__all__ = ["clip_loss_chunked"]


def _statistics(x: Tensor, y: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """A chunk's rows (C, D) against all captions: (C,) and (B,), log-sums of exponentials."""
    logits = scale * (x @ y.T)  # (C, B)
    return torch.logsumexp(logits, 1), torch.logsumexp(logits, 0)


def _gradients(
    x: Tensor, y: Tensor, scale: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A chunk's part of the gradients, but for what the diagonal adds: (C, D), (B, D), ()."""
    logits = scale * (x @ y.T)  # (C, B), once more: cheaper than to keep it
    # ∂L/∂s_ij = ( softmax over captions + softmax over pictures ) / 2B
    g = ((logits - rows[:, None]).exp() + (logits - columns).exp()) / (2 * len(y))
    return scale * (g @ y), scale * (g.T @ x), (g * logits).sum() / scale


@functools.cache
def _compiled(function: Callable) -> Callable:
    return torch.compile(function)


def _form(function: Callable, x: Tensor) -> Callable:
    """On a GPU the compiler fuses the passes over a chunk into a few; a CPU takes torch's own."""
    return _compiled(function) if x.is_cuda else function


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, scale: Tensor, chunk: int) -> Tensor:
        rows, columns = [], None
        for part in x.split(chunk):
            row, column = _form(_statistics, x)(part, y, scale)
            rows.append(row)
            columns = column if columns is None else torch.logaddexp(columns, column)
        rows, right = torch.cat(rows), (x * y).sum(1)  # (B,), (B,): cosine of each pair
        ctx.save_for_backward(x, y, scale, rows, columns, right)
        ctx.chunk = chunk
        return ((rows + columns) / 2 - scale * right).mean()

    @staticmethod
    def backward(ctx, upstream: Tensor):
        if torch.is_grad_enabled():  # create_graph=True: what is saved has no graph of its own
            raise RuntimeError("clip_loss_chunked has no second derivative: take clip_loss for it")
        x, y, scale, rows, columns, right = ctx.saved_tensors
        parts, dy, dscale = [], torch.zeros_like(y), torch.zeros_like(scale)
        for part, row in zip(x.split(ctx.chunk), rows.split(ctx.chunk)):
            dx, more, s = _form(_gradients, x)(part, y, scale, row, columns)
            parts.append(dx)
            dy += more
            dscale += s
        # the diagonal: ∂L/∂s_ii has −1/B besides
        dx = torch.cat(parts) - scale / len(x) * y
        dy -= scale / len(x) * x
        dscale -= right.mean()
        return upstream * dx, upstream * dy, upstream * dscale, None


def clip_loss_chunked(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    chunk_size: int = 4096,
) -> Tensor:
    """``clip_loss`` with memory for chunk_size × B logits instead of B × B: a scalar, in nats.

    The forward pass goes over chunks of pictures, and keeps two numbers a pair: the logarithm of
    each row's and each column's sum. The backward pass computes a chunk's logits once more, and
    from them its gradients. That is four products where the plain loss has three.

    Args:
        image_features, text_features: (B, D), of length 1 each; row i of both is pair i.
        logit_scale: what cosines are multiplied with, 1/τ; not 0.
        chunk_size: pictures at a time. On a GPU a divisor of B is best: each size is compiled.

    Raises:
        TypeError, ValueError: as ``clip_loss``; a chunk of less than 1.
        RuntimeError: a second derivative is asked for, which it does not have.
    """
    check_features(image_features, text_features)
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    x, y = widened(image_features), widened(text_features)
    dtype = torch.promote_types(x.dtype, y.dtype)
    scale = torch.as_tensor(logit_scale, dtype=dtype, device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        return _ChunkedLoss.apply(x.to(dtype), y.to(dtype), scale, chunk_size)
