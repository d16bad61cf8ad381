"""One layer of a stream: attention and a feed-forward network, each with norm and residual."""

from __future__ import annotations

from torch import Tensor, nn

from dlcourse.multimodal_fusion.audio_visual.attention import CrossAttention


class Block(nn.Module):
    """``x`` reads in ``y``, then thinks: two residual branches, each normalised at its start.

    Called with one sequence it is a layer of self-attention. Shapes as in ``CrossAttention``.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm_x = nn.LayerNorm(dim)
        self.norm_y = nn.LayerNorm(dim)
        self.attention = CrossAttention(dim, num_heads)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor, y: Tensor, key_padding: Tensor | None = None) -> Tensor:
        # x ← x + Attention(norm(x), norm(y))
        x = x + self.attention(self.norm_x(x), self.norm_y(y), key_padding)
        # x ← x + MLP(norm(x))
        return x + self.mlp(self.norm_mlp(x))

    def weights(self, x: Tensor, y: Tensor, key_padding: Tensor | None = None) -> Tensor:
        """Where ``x`` looks in ``y``: ``(B, heads, Tx, Ty)``."""
        return self.attention.readable(self.norm_x(x), self.norm_y(y), key_padding)[1]


class SelfBlock(Block):
    """A layer of self-attention: a ``Block`` in which ``y`` is ``x``, with one norm for both."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__(dim, num_heads, mlp_ratio)
        self.norm_y = self.norm_x

    def forward(self, x: Tensor, key_padding: Tensor | None = None) -> Tensor:
        return super().forward(x, x, key_padding)
