"""One modality may be missing: leaving it out in training, and averaging what is there.

Paper: Neverova et al. (2016), *ModDrop: adaptive multi-modal gesture recognition*.
"""

from __future__ import annotations

import torch
from torch import Tensor


def modality_dropout(
    batch: int,
    probability: float,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose for each example whether the audio, the video, or neither is left out: never both.

    Returns two bool tensors ``(batch,)``: audio missing, video missing. Each is True with half the
    probability.

    Raises ValueError for a probability outside of [0, 1].
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"a probability lies in [0, 1]: got {probability}")
    u = torch.rand(batch, generator=generator, device=device)
    audio_missing = u < probability / 2
    return audio_missing, (u < probability) & ~audio_missing


def mean_of_present(
    audio_logits: Tensor, video_logits: Tensor, audio_missing: Tensor, video_missing: Tensor
) -> Tensor:
    """Mean of the logits of those streams that are there: ``(B, C)`` twice to ``(B, C)``.

    ``audio_missing``, ``video_missing``: bool ``(B,)``. Whatever a missing stream says, NaN as
    well, does not count. Where both are missing the result is 0.
    """
    logits = torch.stack([audio_logits, video_logits])  # (2, B, C)
    missing = torch.stack([audio_missing, video_missing])[..., None]  # (2, B, 1)
    total = logits.masked_fill(missing, 0.0).sum(0)
    return total / (~missing).sum(0).clamp(min=1)
