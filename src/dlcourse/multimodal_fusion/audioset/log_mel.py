"""The log-mel spectrogram: how loud a sound is at each pitch, frame by frame.

Chapter 121, section 1b. The convention is librosa's default one, so that numbers can be compared:

* a periodic Hann window of ``n_fft`` samples, centred on every ``hop_length``-th sample; beyond
  its ends the sound counts as silence; with an even ``n_fft`` there are
  ``1 + samples // hop_length`` frames;
* power (the squared magnitude), not amplitude;
* Slaney's mel scale (linear below 1 kHz, logarithmic above), triangles whose area is the same;
* the natural logarithm of max(power, 1e-10). One unit is 4.34 decibels.

torchaudio's default differs (HTK's scale, triangles of the same height, sound mirrored at its ends).

Stevens, Volkmann and Newman, "A scale for the measurement of the psychological magnitude pitch",
JASA 1937; Slaney, "Auditory Toolbox", 1998.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dlcourse.multimodal_fusion.audioset._checks import check_waveform

FLOOR = 1e-10  # power below this counts as silence: log(1e-10) = −23.03


def hertz_to_mel(frequency: Tensor) -> Tensor:
    """Slaney's mel scale: 3 mels for each 200 Hz up to 1 kHz, then 27 for each factor of 6.4."""
    # m(f) = 3 f / 200                        f < 1000
    # m(f) = 15 + 27 ln(f / 1000) / ln(6.4)   f ≥ 1000
    above = 15 + 27 * (frequency.clamp(min=1000) / 1000).log() / math.log(6.4)
    return torch.where(frequency < 1000, 3 * frequency / 200, above)


def mel_to_hertz(mel: Tensor) -> Tensor:
    """The inverse of ``hertz_to_mel``."""
    above = 1000 * ((mel.clamp(min=15) - 15) * math.log(6.4) / 27).exp()
    return torch.where(mel < 15, 200 * mel / 3, above)


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Triangles over the frequencies of a Fourier transform, their corners evenly spaced in mel.

    Returns:
        float32 (n_mels, n_fft // 2 + 1); row m rises from corner m to m + 1 and falls to m + 2.

    Raises:
        ValueError: a size below 1, or so many mels that a triangle falls between two frequencies
            and is empty.
    """
    if min(sample_rate, n_fft, n_mels) < 1:
        raise ValueError(
            f"need sample_rate, n_fft, n_mels >= 1: got {sample_rate}, {n_fft}, {n_mels}"
        )
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft  # Hz, (F,)
    top = hertz_to_mel(torch.tensor(sample_rate / 2, dtype=torch.float64))
    corners = mel_to_hertz(torch.linspace(0, 1, n_mels + 2, dtype=torch.float64) * top)  # Hz
    low, centre, high = (corners[i : i + n_mels, None] for i in range(3))  # (M, 1) each
    rise = (bins - low) / (centre - low)  # (M, F)
    fall = (high - bins) / (high - centre)
    triangles = torch.minimum(rise, fall).clamp(min=0)
    if empty := int((triangles.amax(1) == 0).sum()):
        raise ValueError(
            f"{empty} of {n_mels} mel filters hold no frequency of an n_fft of {n_fft} at "
            f"{sample_rate} Hz: take fewer mels or a longer n_fft"
        )
    return (triangles * 2 / (high - low)).float()  # each triangle has area 1 (in Hz)


def log_mel(
    waveform: Tensor, window: Tensor, filters: Tensor, hop_length: int
) -> Tensor:
    """log of the filtered power spectrum.

    Args:
        waveform: (..., samples), about −1 … 1.
        window: (n_fft,).
        filters: (n_mels, n_fft // 2 + 1).
        hop_length: samples from one frame to the next.

    Returns:
        float32 (..., n_mels, 1 + samples // hop_length), in natural-log units of power.
    """
    n_fft = len(window)
    flat = waveform.reshape(-1, waveform.shape[-1])  # (B, samples)
    with torch.autocast(waveform.device.type, enabled=False):  # a log of bfloat16 is too coarse
        spectrum = torch.stft(
            flat.float(), n_fft, hop_length, window=window, center=True, pad_mode="constant",
            return_complex=True,
        )  # (B, F, frames)
        power = spectrum.real.square() + spectrum.imag.square()  # |X|²
        mel = filters @ power  # (M, F) @ (B, F, frames) -> (B, M, frames)
        out = mel.clamp(min=FLOOR).log()
    return out.view(*waveform.shape[:-1], *out.shape[1:])


class LogMelSpectrogram(nn.Module):
    """Waveforms to log-mel spectrograms, in librosa's default convention; nothing is learned.

    Args:
        sample_rate: of the waveforms, Hz.
        n_fft: samples in a window; frequencies are ``sample_rate / n_fft`` Hz apart.
        hop_length: samples from one frame to the next.
        n_mels: how many bands of pitch.

    Raises:
        ValueError: a size out of range, or mel filters that would be empty.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self, sample_rate: int = 16000, n_fft: int = 400, hop_length: int = 160, n_mels: int = 64
    ) -> None:
        super().__init__()
        if not 1 <= hop_length <= n_fft:
            raise ValueError(f"need 1 <= hop_length <= n_fft: got {hop_length} and {n_fft}")
        self.sample_rate, self.n_fft, self.hop_length = sample_rate, n_fft, hop_length
        self.n_mels = n_mels
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, n_fft, n_mels), persistent=False)

    def forward(self, waveform: Tensor, sample_rate: int | None = None) -> Tensor:
        """(..., samples) -> (..., n_mels, 1 + samples // hop_length).

        Raises:
            TypeError: the waveform is not floating point.
            ValueError: the sound is shorter than a window, is not finite, or has another rate than
                this module was made for (told by ``sample_rate``).
        """
        check_waveform(waveform, self.n_fft)
        if sample_rate is not None and sample_rate != self.sample_rate:
            raise ValueError(
                f"the sound has {sample_rate} samples a second, and this module was made for "
                f"{self.sample_rate}: resample the sound, or make a LogMelSpectrogram for its rate"
            )
        return log_mel(waveform, self.window, self.filters, self.hop_length)

    def extra_repr(self) -> str:
        sizes = f"n_fft={self.n_fft}, hop_length={self.hop_length}, n_mels={self.n_mels}"
        return f"sample_rate={self.sample_rate}, {sizes}"
