"""One training loop for every method of chapter 120, so that only the loss differs between them.

Chapter: ``120_self_supervised_learning`` (every section).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dlcourse.experiments import batches_of_indices

__all__ = ["pretrain"]


def pretrain(
    model: nn.Module,
    loss: Callable[[Tensor, torch.Generator], Tensor],
    n: int,
    *,
    steps: int,
    batch_size: int = 128,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    max_grad_norm: float | None = None,
    seed: int = 0,
    after_step: Callable[[int], None] | None = None,
) -> list[float]:
    """Train ``model`` in place with AdamW: linear warm-up, then a cosine to zero.

    Args:
        model: whose parameters that require a gradient are trained. Decay acts on matrices, and on
            a learned table of positions, which is one; not on biases, norms and single tokens.
        loss: ``loss(indices, generator)`` → a scalar. ``indices`` (batch_size,) say which of the
            ``n`` examples to use, on the model's device; all randomness of masks and views comes
            from ``generator``, which lives there too.
        n: number of examples to draw from.
        steps: updates of the parameters, at least 1.
        batch_size: examples a step, drawn without replacement.
        lr: the peak rate.
        warmup: share of the steps in which the rate rises, in [0, 1).
        max_grad_norm: clip the gradient to this norm; None leaves it.
        seed: of the order of the batches and of ``generator``.
        after_step: called with the number of steps taken, after each (an EMA teacher's place).

    Returns:
        The loss of each step (as measured before its update).

    Raises:
        ValueError: a count or share is out of range.
        FloatingPointError: the loss became infinite or NaN.
    """
    if steps < 1 or not 1 <= batch_size <= n:
        raise ValueError(
            f"need steps >= 1 and 1 <= batch_size <= n, got {steps}, {batch_size}, n = {n}"
        )
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is a share of the steps, in [0, 1): got {warmup}")

    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    groups = [
        {"params": [p for p in parameters if p.squeeze().dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.squeeze().dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)
    warm = max(1, round(warmup * steps))

    def rate(step: int) -> float:
        """Multiplier of the rate at the update that follows ``step`` updates."""
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    generator = torch.Generator(device).manual_seed(seed)
    batches = batches_of_indices(n, batch_size, seed)
    losses = []
    model.train()
    for step in range(1, steps + 1):
        value = loss(next(batches).to(device), generator)
        optimizer.zero_grad()
        value.backward()
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        optimizer.step()
        scheduler.step()
        losses.append(value.detach())
        if after_step is not None:
            after_step(step)
    history = torch.stack(losses).tolist()  # one transfer, not one a step
    if not all(map(math.isfinite, history)):
        bad = next(i for i, v in enumerate(history) if not math.isfinite(v))
        raise FloatingPointError(
            f"the loss is {history[bad]} at step {bad + 1}: lower lr, clip the gradient, or look "
            "for a logarithm or square root of 0"
        )
    model.eval()
    return history
