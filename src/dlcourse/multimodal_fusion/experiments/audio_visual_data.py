"""The clips of section 121.1a as the experiments use them: spectra and pictures, on one device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dlcourse.datasets.sounding_pictures import EventFactors, event_clips, event_factors
from dlcourse.multimodal_fusion.audioset.log_mel import LogMelSpectrogram

SAMPLE_RATE, HOP, N_MELS = 8000, 125, 32
MAX_AUDIO_NOISE, MAX_VIDEO_NOISE = 0.3, 0.8  # in training each clip has a level of its own
CHUNK = 4096  # clips rendered at a time
MEL_MEAN, MEL_SCALE = -3.0, 4.0  # of log power: brings the spectra to about zero mean, unit size


class Clips(NamedTuple):
    """Spectrograms, pictures, targets and factors of the same clips, dimension 0."""

    mel: Tensor  # (N, 32, 65)
    frames: Tensor  # (N, 16, 16, 16)
    target: Tensor  # (N, 16)
    factors: EventFactors


def log_mels(waveform: Tensor) -> Tensor:
    """Standardised log-mel spectra ``(N, 32, 65)`` of one-second clips ``(N, 8000)``."""
    spectrogram = LogMelSpectrogram(SAMPLE_RATE, 256, HOP, N_MELS).to(waveform.device)
    return (spectrogram(waveform) - MEL_MEAN) / MEL_SCALE


def make_clips(
    n: int,
    seed: int,
    device: torch.device | str,
    *,
    audio_noise: float | None = None,
    video_noise: float | None = None,
    lag: float = 0.0,
) -> Clips:
    """``n`` clips from a seed: the same events at any noise or lag.

    A noise of None draws a level for each clip, uniform up to the training's largest.
    """
    events = torch.Generator(device).manual_seed(seed)
    noise = torch.Generator(device).manual_seed(seed + 1_000_000)
    parts = []
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        levels = torch.rand(2, size, generator=noise, device=device)
        clips = event_clips(
            size,
            noise,
            audio_noise=levels[0] * MAX_AUDIO_NOISE if audio_noise is None else audio_noise,
            video_noise=levels[1] * MAX_VIDEO_NOISE if video_noise is None else video_noise,
            lag=lag,
            factors=event_factors(size, events),
        )
        parts.append((log_mels(clips.waveform), clips.frames, clips.target, *clips.factors))
    mel, frames, target, *factors = (torch.cat(part) for part in zip(*parts, strict=True))
    return Clips(mel, frames, target, EventFactors(*factors))
