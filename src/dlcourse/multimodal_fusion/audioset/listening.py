"""Sounds on a page: players, and a sound that is rebuilt from its log-mel spectrogram."""

from __future__ import annotations

import base64
import html
import io
import wave
from collections.abc import Mapping

import torch
from torch import Tensor

from dlcourse.multimodal_fusion.audioset.log_mel import LogMelSpectrogram


def wav_bytes(waveform: Tensor, sample_rate: int) -> bytes:
    """A 16-bit WAV file of one sound, (samples,), scaled to a peak of 0.9."""
    if waveform.ndim != 1 or waveform.numel() == 0:
        raise ValueError(f"need one sound, (samples,): got {tuple(waveform.shape)}")
    scaled = waveform.detach().float().cpu() * (0.9 / waveform.abs().amax().clamp(min=1e-9).cpu())
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, sample_rate, 0, "NONE", ""))
        out.writeframes((scaled * 32767).short().numpy().tobytes())
    return file.getvalue()


def players(sounds: Mapping[str, Tensor], sample_rate: int) -> dict[str, str]:
    """A row of players, one a sound, as a MIME bundle for ``dlcourse.notebook.prose.show``."""
    cells = []
    for name, waveform in sounds.items():
        data = base64.b64encode(wav_bytes(waveform, sample_rate)).decode("ascii")
        label = html.escape(name)
        cells.append(
            f'<figure style="display:inline-block;margin:0 1em 1em 0"><figcaption>{label}'
            f'</figcaption><audio controls preload="none" aria-label="{label}" '
            f'src="data:audio/wav;base64,{data}"></audio></figure>'
        )
    return {"text/html": "\n".join(cells), "text/plain": "sounds: " + "; ".join(sounds)}


def rebuild(spectrogram: Tensor, mel: LogMelSpectrogram, samples: int, steps: int = 32) -> Tensor:
    """A sound with about this log-mel spectrogram: (n_mels, frames) -> (samples,).

    The bands are spread over the frequencies by the filters' pseudo-inverse, and a phase that fits
    is found by iteration (Griffin and Lim, "Signal estimation from modified short-time Fourier
    transform", IEEE TASSP 1984). What bands and windows have blurred stays blurred.
    """
    power = (torch.linalg.pinv(mel.filters) @ spectrogram.exp()).clamp(min=0)  # (F, frames)
    magnitude = power.sqrt()
    settings = dict(n_fft=mel.n_fft, hop_length=mel.hop_length, window=mel.window)
    angle = torch.rand(power.shape, generator=torch.Generator().manual_seed(0)) * 2 * torch.pi
    spectrum = torch.polar(magnitude, angle)
    for _ in range(steps):
        sound = torch.istft(spectrum, length=samples, **settings)
        again = torch.stft(sound, return_complex=True, pad_mode="constant", **settings)
        spectrum = torch.polar(magnitude, again.angle())
    return torch.istft(spectrum, length=samples, **settings)
