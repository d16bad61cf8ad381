"""Four ways in which two streams of tokens may meet: late, across, jointly, through a bottleneck.

All take and give two streams, and differ in nothing else: ``fusion(audio, video, audio_padding,
video_padding) -> (audio, video)``, with audio ``(B, Ta, dim)``, video ``(B, Tv, dim)``, padding
bool ``(B, T)``, True where there is nothing. The first ``depth - fuse_depth`` layers see their own
stream only.

Papers:
    Nagrani et al. (2021), *Attention Bottlenecks for Multimodal Fusion*, section 3.
    Lu et al. (2019), *ViLBERT* (co-attention).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcourse.multimodal_fusion.audio_visual.blocks import Block, SelfBlock

Streams = tuple[Tensor, Tensor]


def _blocks(kind: type[Block], count: int, dim: int, num_heads: int) -> nn.ModuleList:
    return nn.ModuleList(kind(dim, num_heads) for _ in range(count))


class LateFusion(nn.Module):
    """No meeting at all: each stream has ``depth`` layers of its own, and the logits are averaged.

    The other fusions begin like this, with fewer layers.
    """

    def __init__(self, dim: int, num_heads: int, depth: int = 4) -> None:
        super().__init__()
        if depth < 0:
            raise ValueError(f"depth counts layers: got {depth}")
        self.audio_own = _blocks(SelfBlock, depth, dim, num_heads)
        self.video_own = _blocks(SelfBlock, depth, dim, num_heads)

    def forward(
        self, audio: Tensor, video: Tensor, audio_pad: Tensor, video_pad: Tensor
    ) -> Streams:
        for own_audio, own_video in zip(self.audio_own, self.video_own, strict=True):
            audio = own_audio(audio, audio_pad)
            video = own_video(video, video_pad)
        return audio, video


class _MidFusion(LateFusion):
    """``depth`` layers, of which the last ``fuse_depth`` let the streams meet."""

    def __init__(self, dim: int, num_heads: int, depth: int = 4, fuse_depth: int = 2) -> None:
        if not 1 <= fuse_depth <= depth:
            raise ValueError(f"need 1 <= fuse_depth <= depth, got {fuse_depth} of {depth} layers")
        super().__init__(dim, num_heads, depth - fuse_depth)


class CrossAttentionFusion(_MidFusion):
    """Each stream asks the other: the sound's tokens read the pictures', and at once vice versa."""

    def __init__(self, dim: int, num_heads: int, depth: int = 4, fuse_depth: int = 2) -> None:
        super().__init__(dim, num_heads, depth, fuse_depth)
        self.audio_asks = _blocks(Block, fuse_depth, dim, num_heads)
        self.video_asks = _blocks(Block, fuse_depth, dim, num_heads)

    def forward(
        self, audio: Tensor, video: Tensor, audio_pad: Tensor, video_pad: Tensor
    ) -> Streams:
        audio, video = super().forward(audio, video, audio_pad, video_pad)
        for audio_asks, video_asks in zip(self.audio_asks, self.video_asks, strict=True):
            # Both read the other's state of before this layer.
            audio, video = (
                audio_asks(audio, video, video_pad),
                video_asks(video, audio, audio_pad),
            )
        return audio, video

    def attention_maps(
        self, audio: Tensor, video: Tensor, audio_pad: Tensor, video_pad: Tensor
    ) -> list[Streams]:
        """For each crossing layer the weights of audio over video ``(B, H, Ta, Tv)``, and of video
        over audio ``(B, H, Tv, Ta)``."""
        audio, video = super().forward(audio, video, audio_pad, video_pad)
        maps = []
        for audio_asks, video_asks in zip(self.audio_asks, self.video_asks, strict=True):
            maps.append(
                (audio_asks.weights(audio, video, video_pad),
                 video_asks.weights(video, audio, audio_pad))
            )  # fmt: skip
            audio, video = (
                audio_asks(audio, video, video_pad),
                video_asks(video, audio, audio_pad),
            )
        return maps


class JointFusion(_MidFusion):
    """One transformer over the tokens of both: everybody may look at everybody."""

    def __init__(self, dim: int, num_heads: int, depth: int = 4, fuse_depth: int = 2) -> None:
        super().__init__(dim, num_heads, depth, fuse_depth)
        self.together = _blocks(SelfBlock, fuse_depth, dim, num_heads)

    def forward(
        self, audio: Tensor, video: Tensor, audio_pad: Tensor, video_pad: Tensor
    ) -> Streams:
        audio, video = super().forward(audio, video, audio_pad, video_pad)
        lengths = (audio.shape[1], video.shape[1])
        both, padding = torch.cat([audio, video], 1), torch.cat([audio_pad, video_pad], 1)
        for block in self.together:
            both = block(both, padding)  # (B, Ta + Tv, dim)
        return both.split(lengths, 1)


class BottleneckFusion(_MidFusion):
    """The multimodal bottleneck transformer (MBT): streams meet in a few shared tokens only.

    Args:
        dim, num_heads, depth, fuse_depth: as for the others.
        bottlenecks: number of shared tokens, 4 in the paper.
    """

    def __init__(
        self, dim: int, num_heads: int, depth: int = 4, fuse_depth: int = 2, bottlenecks: int = 4
    ) -> None:
        super().__init__(dim, num_heads, depth, fuse_depth)
        if bottlenecks < 1:
            raise ValueError(f"the streams need at least one shared token: got {bottlenecks}")
        self.bottleneck = nn.Parameter(0.02 * torch.randn(bottlenecks, dim))
        self.audio_with = _blocks(SelfBlock, fuse_depth, dim, num_heads)
        self.video_with = _blocks(SelfBlock, fuse_depth, dim, num_heads)

    def forward(
        self, audio: Tensor, video: Tensor, audio_pad: Tensor, video_pad: Tensor
    ) -> Streams:
        audio, video = super().forward(audio, video, audio_pad, video_pad)
        shared = self.bottleneck.expand(len(audio), -1, -1)  # (B, S, dim)
        for audio_with, video_with in zip(self.audio_with, self.video_with, strict=True):
            # [z_m ‖ ẑ_m] = Transformer_m([z_m ‖ z_shared])
            audio, from_audio = _with(audio_with, audio, audio_pad, shared)
            video, from_video = _with(video_with, video, video_pad, shared)
            # z_shared = mean over the modalities of ẑ_m
            shared = (from_audio + from_video) / 2
        return audio, video


def _with(block: SelfBlock, own: Tensor, padding: Tensor, shared: Tensor) -> Streams:
    """A layer over a stream's own tokens and the shared ones: both, updated."""
    seen = torch.cat([padding, padding.new_zeros(shared.shape[:2])], 1)
    return block(torch.cat([own, shared], 1), seen).split((own.shape[1], shared.shape[1]), 1)
