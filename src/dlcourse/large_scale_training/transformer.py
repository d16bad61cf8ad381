"""A small decoder-only transformer, as plain as possible, so that what is measured is its training.

Chapter: ``119_large_scale_training`` (sections 1a and 1c).

Pre-norm blocks (Vaswani et al. 2017; Xiong et al. 2020), learned positions, attention by
``scaled_dot_product_attention``.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Block", "Transformer", "language_loss"]


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); (batch, tokens, width) to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, w = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, w // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, tokens, width / heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, w))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Transformer(nn.Module):
    """Token indices (batch, tokens) to logits (batch, tokens, vocabulary).

    Raises ValueError if ``heads`` does not divide ``width``, or, when called, if there are more
    tokens than ``sequence``.
    """

    def __init__(
        self, *, vocabulary: int, sequence: int, width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(sequence, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():  # GPT-2's: a loss of log(vocabulary) at the start
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        for block in self.blocks:  # the residual stream is a sum of 2 · layers terms
            for linear in (block.out, block.down):
                nn.init.normal_(linear.weight, std=0.02 / (2 * layers) ** 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        t = tokens.shape[1]
        if t > self.position.num_embeddings:
            raise ValueError(f"{t} tokens, but positions for {self.position.num_embeddings}")
        x = self.token(tokens) + self.position.weight[:t]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def language_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats a token; logits (batch, tokens, vocabulary), in float32."""
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
