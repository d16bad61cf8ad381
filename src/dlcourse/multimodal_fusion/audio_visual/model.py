"""A classifier of sound and picture in which the two streams may meet in any of four ways.

Papers: those of the package; Nagrani et al. (2021) for the average of both streams' logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcourse.multimodal_fusion.audio_visual.clock import time_embedding, token_times
from dlcourse.multimodal_fusion.audio_visual.fusion import CrossAttentionFusion
from dlcourse.multimodal_fusion.audio_visual.missing import mean_of_present, modality_dropout


class AudioVisualModel(nn.Module):
    """Encoders, a fusion, and a classifier a stream, whose logits are averaged.

    Each stream's tokens get an embedding of their time in seconds and one of their modality, and a
    learned token goes before them, which is there when nothing else is. After the fusion, the
    mean of a stream's tokens goes through its own linear classifier.

    Args:
        audio_encoder, video_encoder: modules that give ``(B, T, width)``. The width is their
            attribute ``dim`` (``dim`` of the model without one), the tokens a second ``rate``
            (without one, the tokens are spread evenly over one second).
        dim: width of the fusion.
        num_heads: of all attention.
        num_classes: number of logits.
        fusion: a module from ``(audio, video, audio_padding, video_padding)`` to two streams;
            ``CrossAttentionFusion(dim, num_heads)`` where it is not given.
        modality_dropout: in training, the probability that an example loses one modality.

    Raises:
        ValueError: no class, or a probability outside of [0, 1].
    """

    def __init__(
        self,
        audio_encoder: nn.Module,
        video_encoder: nn.Module,
        dim: int = 512,
        num_heads: int = 8,
        num_classes: int = 1000,
        *,
        fusion: nn.Module | None = None,
        modality_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_classes < 1 or not 0 <= modality_dropout <= 1:
            raise ValueError(
                "need num_classes >= 1 and a modality_dropout in [0, 1], got "
                f"{num_classes} and {modality_dropout}"
            )
        self.dim, self.modality_dropout = dim, modality_dropout
        self.encoders = nn.ModuleDict({"audio": audio_encoder, "video": video_encoder})
        self.widths = {m: getattr(e, "dim", dim) for m, e in self.encoders.items()}
        self.rates = {m: getattr(e, "rate", None) for m, e in self.encoders.items()}
        self.projections = nn.ModuleDict({m: nn.Linear(w, dim) for m, w in self.widths.items()})
        self.modality = nn.ParameterDict(
            {m: nn.Parameter(0.02 * torch.randn(dim)) for m in self.encoders}
        )
        self.first_token = nn.ParameterDict(
            {m: nn.Parameter(0.02 * torch.randn(1, 1, dim)) for m in self.encoders}
        )
        self.fusion = CrossAttentionFusion(dim, num_heads) if fusion is None else fusion
        self.norms = nn.ModuleDict({m: nn.LayerNorm(dim) for m in self.encoders})
        self.heads = nn.ModuleDict({m: nn.Linear(dim, num_classes) for m in self.encoders})

    def forward(
        self,
        audio: Tensor | None = None,
        video: Tensor | None = None,
        *,
        audio_padding: Tensor | None = None,
        video_padding: Tensor | None = None,
        audio_missing: Tensor | None = None,
        video_missing: Tensor | None = None,
    ) -> Tensor:
        """Logits ``(B, num_classes)``.

        Args:
            audio, video: what the encoders take; either may be None: missing for all.
            audio_padding, video_padding: bool ``(B, T)`` over the encoder's tokens, True after
                the end of a shorter clip.
            audio_missing, video_missing: bool ``(B,)``: examples without that modality.

        Raises:
            ValueError: both modalities missing, unequal batch sizes, tokens of another width than
                said, or a mask of another shape.
        """
        audio_missing, video_missing = self._missing(audio, video, audio_missing, video_missing)
        a, a_pad = self._stream("audio", audio, audio_padding, audio_missing)
        v, v_pad = self._stream("video", video, video_padding, video_missing)
        a, v = self.fusion(a, v, a_pad, v_pad)
        logits = [
            self.heads[m](self.norms[m](masked_mean(x, padding)))
            for m, x, padding in (("audio", a, a_pad), ("video", v, v_pad))
        ]
        return mean_of_present(*logits, audio_missing, video_missing)

    def attention_maps(self, audio: Tensor, video: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The fusion's maps, without the learned first tokens: see ``CrossAttentionFusion``."""
        missing = self._missing(audio, video, None, None)
        a, a_pad = self._stream("audio", audio, None, missing[0])
        v, v_pad = self._stream("video", video, None, missing[1])
        maps = self.fusion.attention_maps(a, v, a_pad, v_pad)
        return [tuple(weights[..., 1:, 1:] for weights in layer) for layer in maps]

    def _missing(
        self,
        audio: Tensor | None,
        video: Tensor | None,
        audio_missing: Tensor | None,
        video_missing: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Which examples lack which modality: two bool tensors ``(B,)``."""
        if audio is None and video is None:
            raise ValueError("both modalities are missing: give audio, video, or both")
        if audio is not None and video is not None and len(audio) != len(video):
            raise ValueError(f"{len(audio)} sounds, but {len(video)} films in the batch")
        given = video if audio is None else audio
        none = torch.zeros(len(given), dtype=torch.bool, device=given.device)
        missing = []
        for name, x, mask in (("audio", audio, audio_missing), ("video", video, video_missing)):
            if mask is not None and (mask.dtype != torch.bool or mask.shape != none.shape):
                raise ValueError(f"{name}_missing must be bool {tuple(none.shape)}")
            missing.append(~none if x is None else none if mask is None else mask)
        if (audio_missing is not None or video_missing is not None) and (
            (missing[0] & missing[1]).any()
        ):
            raise ValueError("an example of the batch has neither sound nor picture")
        if self.training and self.modality_dropout > 0:
            dropped = modality_dropout(len(given), self.modality_dropout, device=given.device)
            whole = ~missing[0] & ~missing[1]
            missing = [m | (d & whole) for m, d in zip(missing, dropped, strict=True)]
        return missing[0], missing[1]

    def _stream(
        self, name: str, x: Tensor | None, padding: Tensor | None, missing: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, 1 + T, dim)`` of one modality, the learned one first, and their padding."""
        first = self.first_token[name].expand(len(missing), -1, -1)
        seen = missing.new_zeros(len(missing), 1)
        if x is None:
            return first, seen
        features = self.encoders[name](x)  # (B, T, width)
        width = self.widths[name]
        if features.dim() != 3 or features.shape[::2] != (len(missing), width):
            raise ValueError(
                f"the {name} encoder must give ({len(missing)}, time, {width}), not "
                f"{tuple(features.shape)}; its attribute `dim` says the width"
            )
        if padding is None:
            padding = missing.new_zeros(features.shape[:2])
        if padding.dtype != torch.bool or padding.shape != features.shape[:2]:
            raise ValueError(f"{name}_padding must be bool {tuple(features.shape[:2])}")
        padding = padding | missing[:, None]
        tokens = self.projections[name](features.masked_fill(padding[..., None], 0.0))
        times = token_times(features.shape[1], self.rates[name], features.device)
        # token + when + which modality
        tokens = tokens + time_embedding(times, self.dim).to(tokens.dtype) + self.modality[name]
        return torch.cat([first.to(tokens.dtype), tokens], 1), torch.cat([seen, padding], 1)


def masked_mean(x: Tensor, padding: Tensor) -> Tensor:
    """Mean over the tokens that are no padding: ``(B, T, dim)`` to ``(B, dim)``."""
    kept = (~padding)[..., None]
    return x.masked_fill(~kept, 0.0).sum(1) / kept.sum(1).clamp(min=1)
