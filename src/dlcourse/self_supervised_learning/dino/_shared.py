"""What several parts of DINO share."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """float32, or float64 if it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def has_process_group() -> bool:
    return dist.is_available() and dist.is_initialized()
