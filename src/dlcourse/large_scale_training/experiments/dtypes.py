"""What each dtype loses: the same training in float32, bfloat16 and float16.

Chapter: ``119_large_scale_training/1c_mixed_precision`` (its recorded cell).
"""

from __future__ import annotations

import torch

from dlcourse.large_scale_training.mixed_precision import MixedPrecision
from dlcourse.large_scale_training.source_text import source_code_batch
from dlcourse.large_scale_training.transformer import Transformer, language_loss

__all__ = ["losses_in"]


def losses_in(
    dtype: torch.dtype, shape: dict[str, int], batch: int, steps: int, *, device: str = "cuda"
) -> list[float]:
    """Losses of ``steps`` steps with ``MixedPrecision(dtype)`` on ``source_code_batch``: the same
    start and the same data for each dtype."""
    torch.manual_seed(0)
    model = Transformer(**shape).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    amp = MixedPrecision(dtype, max_grad_norm=1.0)
    losses = []
    for step in range(steps):
        inputs, targets = source_code_batch(step, batch, shape["sequence"])
        losses.append(
            amp.step(model, optimizer, language_loss, inputs.to(device), targets.to(device))
        )
    return losses
