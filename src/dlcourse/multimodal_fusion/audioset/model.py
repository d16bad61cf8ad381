"""AudioSetModel: which sounds are in a clip, from its waveform, its spectrogram, or both.

Chapter 121, section 1b. The document's class of this name joins two encoders that it does not
define; the idea of reading both the waveform and the log-mel spectrogram is that of PANNs'
Wavegram-Logmel-CNN (Kong et al., IEEE/ACM TASLP 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcourse.multimodal_fusion.audioset.log_mel import LogMelSpectrogram
from dlcourse.multimodal_fusion.audioset.spectrogram_encoder import SpectrogramEncoder
from dlcourse.multimodal_fusion.audioset.waveform_encoder import WaveformEncoder


def pool_time(x: Tensor) -> Tensor:
    """Mean plus maximum over the frames, (B, frames, dim) -> (B, dim); as in PANNs.

    The mean hears what lasts, the maximum what is short. Two encoders with different numbers of
    frames a second can be joined after it.
    """
    return x.mean(1) + x.amax(1)


class AudioSetModel(nn.Module):
    """Multi-label classifier of sounds; its output are logits.

    Args:
        num_classes: 527 in AudioSet.
        waveform_encoder, spectrogram_encoder: one or both; both None: both at their defaults, the
            sizes of wav2vec 2.0 base.
        log_mel: how the spectrogram is made; None: 16 kHz, 25 ms windows each 10 ms, and the
            encoder's number of bands.
        hidden: width of the hidden layer.
        dropout: before the last layer.
        prior: (num_classes,), the share of clips that have each class. The last bias starts at its
            logit, so that the first loss is that of knowing the shares, and not ln 2 a class
            (Lin et al., "Focal loss", ICCV 2017, section 3.3).

    Raises:
        ValueError: a prior that does not lie between 0 and 1, or of another length.
    """

    def __init__(
        self,
        num_classes: int = 527,
        waveform_encoder: WaveformEncoder | None = None,
        spectrogram_encoder: SpectrogramEncoder | None = None,
        *,
        log_mel: LogMelSpectrogram | None = None,
        hidden: int = 512,
        dropout: float = 0.1,
        prior: Tensor | None = None,
    ) -> None:
        super().__init__()
        if waveform_encoder is None and spectrogram_encoder is None:
            waveform_encoder, spectrogram_encoder = WaveformEncoder(), SpectrogramEncoder()
        self.waveform_encoder = waveform_encoder
        self.spectrogram_encoder = spectrogram_encoder
        if spectrogram_encoder is not None and log_mel is None:
            log_mel = LogMelSpectrogram(n_mels=spectrogram_encoder.n_mels)
        self.log_mel = log_mel
        encoders = [e for e in (waveform_encoder, spectrogram_encoder) if e is not None]
        self.fusion = nn.Linear(sum(e.dim for e in encoders), hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)
        if prior is not None:
            if prior.shape != (num_classes,) or not ((prior > 0) & (prior < 1)).all():
                raise ValueError(f"prior must be {num_classes} shares, each > 0 and < 1")
            with torch.no_grad():
                self.classifier.bias.copy_(prior.logit())

    def forward(self, waveform: Tensor, spectrogram: Tensor | None = None) -> Tensor:
        """(B, samples) -> logits (B, num_classes).

        Args:
            waveform: (B, samples), 16,000 a second by default.
            spectrogram: (B, n_mels, frames), the same clips' log-mel spectrograms, when they are
                there already (augmented, for example); None: they are computed.

        Raises:
            TypeError, ValueError: input that the encoders refuse; they say why.
        """
        features = []
        if self.waveform_encoder is not None:
            features.append(pool_time(self.waveform_encoder(waveform)))  # (B, dim)
        if self.spectrogram_encoder is not None:
            if spectrogram is None:
                spectrogram = self.log_mel(waveform)  # (B, M, frames)
            features.append(pool_time(self.spectrogram_encoder(spectrogram)))
        # h = GELU(W [f_wave; f_mel] + b): without it, two linear maps would be one.
        hidden = nn.functional.gelu(self.fusion(torch.cat(features, 1)))  # (B, hidden)
        return self.classifier(self.dropout(hidden))
