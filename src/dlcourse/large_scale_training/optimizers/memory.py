"""What an optimizer keeps.

Chapter: ``119_large_scale_training/2_optimizers``.
"""

from __future__ import annotations

from torch import Tensor
from torch.optim.optimizer import Optimizer

from dlcourse.large_scale_training.optimizers._elementwise import local

__all__ = ["optimizer_state_bytes"]


def optimizer_state_bytes(optimizer: Optimizer) -> int:
    """Bytes held by the tensors of an optimizer's state (0 before its first step)."""
    tensors = (
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
    return sum(t.numel() * t.element_size() for t in map(local, tensors))
