"""Small encoders that turn sound and pictures into sequences of tokens.

An encoder says two things about its tokens: ``dim``, their width, and ``rate``, tokens a second.
"""

from __future__ import annotations

from torch import Tensor, nn


class SpectrogramTokens(nn.Module):
    """A log-mel spectrogram ``(B, n_mels, T)`` to tokens ``(B, T // 2, dim)``.

    Two convolutions over time, the first with stride 2. ``frame_rate`` is spectra a second.
    """

    def __init__(self, n_mels: int = 32, dim: int = 128, frame_rate: float = 64.0) -> None:
        super().__init__()
        self.dim, self.rate, self.n_mels = dim, frame_rate / 2, n_mels
        self.layers = nn.Sequential(
            nn.Conv1d(n_mels, dim, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv1d(dim, dim, 3, padding=1),
        )

    def forward(self, spectrogram: Tensor) -> Tensor:
        shape = tuple(spectrogram.shape)
        if len(shape) != 3 or shape[1] != self.n_mels or shape[2] < 2:
            raise ValueError(f"need a spectrogram (batch, {self.n_mels}, time >= 2), got {shape}")
        return self.layers(spectrogram).transpose(1, 2)


class FrameTokens(nn.Module):
    """Grey pictures ``(B, T, S, S)`` to tokens ``(B, T, dim)``, each picture by itself.

    ``size`` is a multiple of 4; ``frame_rate`` is pictures a second.
    """

    def __init__(self, size: int = 16, dim: int = 128, frame_rate: float = 16.0) -> None:
        super().__init__()
        if size < 4 or size % 4:
            raise ValueError(f"size must be a multiple of 4, got {size}")
        self.dim, self.rate, self.size = dim, frame_rate, size
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(64 * (size // 4) ** 2, dim),
        )

    def forward(self, frames: Tensor) -> Tensor:
        if frames.dim() != 4 or frames.shape[2:] != (self.size, self.size):
            raise ValueError(
                f"need pictures (batch, time, {self.size}, {self.size}), got {tuple(frames.shape)}"
            )
        tokens = self.layers(frames.flatten(0, 1)[:, None])  # (B · T, dim)
        return tokens.unflatten(0, frames.shape[:2])
