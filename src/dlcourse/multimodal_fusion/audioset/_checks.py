"""What a batch of sounds must be; each error says what to do."""

from __future__ import annotations

import torch
from torch import Tensor


def can_look(values: Tensor) -> bool:
    """Whether values may be read now: not inside of torch.compile or a CUDA graph's capture."""
    if torch.compiler.is_compiling():
        return False
    return not (values.is_cuda and torch.cuda.is_current_stream_capturing())


def check_finite(values: Tensor, what: str) -> None:
    """Raise ValueError if any value is NaN or infinite."""
    if can_look(values) and not torch.isfinite(values).all():
        raise ValueError(f"{what} holds values that are not finite (NaN or infinity)")


def check_waveform(waveform: Tensor, least: int) -> None:
    """Raise for sounds that are not (..., samples) of finite floats with ``least`` samples."""
    if not waveform.is_floating_point():
        raise TypeError(
            f"the waveform has dtype {waveform.dtype}; pass floats in about -1 ... 1 "
            "(for int16: waveform.float() / 32768)"
        )
    if waveform.ndim < 1 or waveform.numel() == 0:
        raise ValueError(f"need (..., samples) with at least one sound: {tuple(waveform.shape)}")
    if waveform.shape[-1] < least:
        raise ValueError(
            f"the sound has {waveform.shape[-1]} samples, but {least} are needed: pad it with "
            "zeros (torch.nn.functional.pad), or take a shorter window"
        )
    check_finite(waveform, "the waveform")


def check_targets(scores: Tensor, targets: Tensor) -> None:
    """Raise unless both are (N, C) with N, C ≥ 1, and the targets lie in 0 … 1."""
    if scores.shape != targets.shape or scores.ndim != 2 or scores.numel() == 0:
        raise ValueError(
            "scores and targets must both be (clips, classes): "
            f"{tuple(scores.shape)} and {tuple(targets.shape)}"
        )
    if can_look(targets) and not ((targets >= 0) & (targets <= 1)).all():
        raise ValueError("targets must lie between 0 and 1: one number for each clip and class")
