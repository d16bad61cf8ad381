"""From samples to features, without a spectrogram: the encoder of wav2vec 2.0.

Chapter 121, section 1b. Baevski et al., NeurIPS 2020, sections 2 and 4.2: seven strided
convolutions turn 16,000 samples a second into 49 frames a second, each of which sees 400 samples
(25 ms); a transformer mixes the frames. The same weights give the same numbers as
``transformers.Wav2Vec2Model`` (base).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.multimodal_fusion.audioset._checks import check_waveform
from dlcourse.multimodal_fusion.audioset.trunk import Trunk


class WaveformEncoder(nn.Module):
    """Strided 1-D convolutions and a transformer over waveforms; the defaults are the base size.

    Args:
        dim: width of the features.
        num_layers, num_heads: of the transformer.
        channels: of the convolutions.
        kernels, strides: of each convolution, in its own input's frames.
        position_kernel, position_groups, dropout: see ``Trunk``.

    Raises:
        ValueError: kernels and strides of unequal number, or a size that does not divide.
    """

    def __init__(
        self,
        dim: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        *,
        channels: int = 512,
        kernels: Sequence[int] = (10, 3, 3, 3, 3, 2, 2),
        strides: Sequence[int] = (5, 2, 2, 2, 2, 2, 2),
        position_kernel: int = 128,
        position_groups: int = 16,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(kernels) != len(strides) or not kernels:
            raise ValueError(f"need as many strides as kernels: {len(strides)} and {len(kernels)}")
        self.dim, self.kernels, self.strides = dim, tuple(kernels), tuple(strides)
        widths = [1] + [channels] * len(kernels)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(c_in, c_out, kernel, stride, bias=False)
            for c_in, c_out, kernel, stride in zip(widths, widths[1:], kernels, strides)
        )
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.weight)
        # Each channel of the first convolution is normalised over the clip's time.
        self.first_norm = nn.GroupNorm(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.projection = nn.Linear(channels, dim)
        self.trunk = Trunk(dim, num_layers, num_heads, position_kernel, position_groups, dropout)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame of the convolutions sees; no shorter clip can be encoded."""
        field = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides)):
            field = (field - 1) * stride + kernel
        return field

    def frames(self, samples: int) -> int:
        """How many frames a clip of so many samples has."""
        for kernel, stride in zip(self.kernels, self.strides):
            samples = (samples - kernel) // stride + 1
        return samples

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, samples) -> (B, frames, dim); each clip is first scaled to mean 0, variance 1.

        Raises:
            TypeError, ValueError: see ``check_waveform``; a clip shorter than the receptive field.
        """
        if waveform.ndim != 2:
            raise ValueError(f"need waveforms (B, samples): got {tuple(waveform.shape)}")
        check_waveform(waveform, self.receptive_field)
        x = F.layer_norm(waveform, waveform.shape[-1:], eps=1e-7)[:, None]  # (B, 1, samples)
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)  # (B, channels, shorter by the stride)
            if i == 0:
                x = self.first_norm(x)
            x = F.gelu(x)
        x = self.projection(self.norm(x.transpose(1, 2)))  # (B, frames, dim)
        return self.trunk(x)
