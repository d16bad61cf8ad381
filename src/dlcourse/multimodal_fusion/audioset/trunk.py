"""The transformer over frames of sound that both encoders end with, as in wav2vec 2.0.

Baevski, Zhou, Mohamed and Auli, "wav2vec 2.0: A framework for self-supervised learning of speech
representations", NeurIPS 2020, section 2.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


class Trunk(nn.Module):
    """A convolution says where a frame stands; post-norm transformer layers mix the frames.

    Args:
        dim: width of a frame's features.
        num_layers: transformer layers, 0 or more.
        num_heads: of the attention; divides ``dim``.
        position_kernel: frames that the positional convolution sees.
        position_groups: groups of its channels; divides ``dim``.
        dropout: in the layers.
    """

    def __init__(
        self,
        dim: int,
        num_layers: int,
        num_heads: int,
        position_kernel: int = 128,
        position_groups: int = 16,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if dim % num_heads or dim % position_groups:
            raise ValueError(
                f"dim = {dim} must be a multiple of num_heads = {num_heads} and of "
                f"position_groups = {position_groups}"
            )
        position = nn.Conv1d(
            dim, dim, position_kernel, padding=position_kernel // 2, groups=position_groups
        )
        nn.init.normal_(position.weight, std=math.sqrt(4 * (1 - dropout) / (position_kernel * dim)))
        nn.init.zeros_(position.bias)
        self.position = weight_norm(position, dim=2)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, num_heads, 4 * dim, dropout, activation="gelu", batch_first=True
            )
            for _ in range(num_layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, frames, dim) -> (B, frames, dim)."""
        # An even kernel gives one frame too many: the last is dropped.
        position = self.position(x.transpose(1, 2))[..., : x.shape[1]]  # (B, dim, frames)
        x = x + F.gelu(position).transpose(1, 2)
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x)
        return x
