"""What a batch of sounds must be; each error says what to do."""

from __future__ import annotations

import torch
from torch import Tensor


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


def check_finite(values: Tensor, what: str) -> None:
    """Raise ValueError if any value is NaN or infinite (skipped inside of torch.compile)."""
    if not torch.compiler.is_compiling() and not torch.isfinite(values).all():
        raise ValueError(f"{what} holds values that are not finite (NaN or infinity)")
