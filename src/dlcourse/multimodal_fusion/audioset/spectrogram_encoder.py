"""From a log-mel spectrogram to features: 2-D convolutions, then a transformer over time.

Chapter 121, section 1b. The convolutions are in the manner of PANNs (Kong et al., IEEE/ACM TASLP
2020, section III): batch normalisation of each mel band at the input, blocks of 3 × 3 convolution,
batch normalisation, ReLU and 2 × 2 average pooling, and a mean over what is left of the bands. The
transformer is the one of ``WaveformEncoder``, so that the two encoders differ in what they read.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dlcourse.multimodal_fusion.audioset._checks import check_finite
from dlcourse.multimodal_fusion.audioset.trunk import Trunk


class SpectrogramEncoder(nn.Module):
    """Convolutions over pitch and time, and a transformer over time.

    Args:
        dim: width of the features.
        num_layers, num_heads: of the transformer.
        n_mels: bands of the spectrogram.
        channels: of each block; every block halves both pitch and time.
        position_kernel, position_groups, dropout: see ``Trunk``.

    Raises:
        ValueError: more blocks than the bands can be halved.
    """

    def __init__(
        self,
        dim: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        *,
        n_mels: int = 64,
        channels: Sequence[int] = (64, 128, 256),
        position_kernel: int = 16,
        position_groups: int = 16,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if n_mels < 2 ** len(channels) or not channels:
            raise ValueError(
                f"{len(channels)} blocks halve {n_mels} bands to nothing: "
                "take one block or more, and fewer of them or more bands"
            )
        self.dim, self.n_mels, self.shortest = dim, n_mels, 2 ** len(channels)
        self.band_norm = nn.BatchNorm1d(n_mels)
        widths = [1, *channels]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(c_out),
                nn.ReLU(),
                nn.AvgPool2d(2),
            )
            for c_in, c_out in zip(widths, channels)
        )
        self.projection = nn.Linear(channels[-1], dim)
        self.trunk = Trunk(dim, num_layers, num_heads, position_kernel, position_groups, dropout)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """(B, n_mels, frames) -> (B, frames // 2**blocks, dim).

        Raises ValueError for another number of bands, too few frames, or values not finite.
        """
        if spectrogram.ndim != 3 or spectrogram.shape[1] != self.n_mels:
            raise ValueError(
                f"need spectrograms (B, {self.n_mels}, frames): got {tuple(spectrogram.shape)}"
            )
        if spectrogram.shape[2] < self.shortest:
            raise ValueError(
                f"the spectrogram has {spectrogram.shape[2]} frames and {self.shortest} are "
                "needed: pad the clip, or take a shorter hop_length"
            )
        check_finite(spectrogram, "the spectrogram")
        x = self.band_norm(spectrogram)[:, None]  # (B, 1, M, frames)
        for block in self.blocks:
            x = block(x)  # (B, channels, M / 2, frames / 2)
        x = x.mean(2).transpose(1, 2)  # mean over the bands: (B, frames', channels)
        return self.trunk(self.projection(x))
