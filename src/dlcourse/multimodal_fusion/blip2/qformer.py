"""The Q-Former: learned queries that look at a frozen image model's features and at a text."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcourse.multimodal_fusion.blip2.masks import _attention_mask, attention_mask


class Attention(nn.Module):
    """BERT's attention, with its residual and norm: ``(B, L, D)`` looks at ``(B, M, key_dim)``."""

    def __init__(self, dim: int, num_heads: int, key_dim: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(key_dim, dim)
        self.value, self.dense = nn.Linear(key_dim, dim), nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, L or M, D/heads)
            for part in (self.query(x), self.key(memory), self.value(memory))
        )
        drop = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop)
        mixed = self.dense(mixed.transpose(1, 2).flatten(2))  # (B, L, D)
        return self.norm(x + F.dropout(mixed, self.dropout, self.training))


class FeedForward(nn.Module):
    """BERT's two layers, with their residual and norm."""

    def __init__(self, dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.dense_in, self.dense_out = nn.Linear(dim, mlp_dim), nn.Linear(mlp_dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense_out(F.gelu(self.dense_in(x)))
        return self.norm(x + F.dropout(y, self.dropout, self.training))


class Block(nn.Module):
    """Self-attention over queries and text together; cross-attention of the queries alone."""

    def __init__(
        self, dim: int, num_heads: int, image_dim: int | None, mlp_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention = Attention(dim, num_heads, dim, dropout)
        self.cross = Attention(dim, num_heads, image_dim, dropout) if image_dim else None
        self.queries_mlp = FeedForward(dim, mlp_dim, dropout)
        self.text_mlp = FeedForward(dim, mlp_dim, dropout)

    def forward(
        self, x: Tensor, num_queries: int, image: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        x = self.attention(x, x, mask)  # shared: one set of weights for both
        queries, text = x[:, :num_queries], x[:, num_queries:]
        parts = []
        if num_queries:
            if self.cross is not None:
                queries = self.cross(queries, image)  # the only place where a picture comes in
            parts.append(self.queries_mlp(queries))
        if text.shape[1]:
            parts.append(self.text_mlp(text))
        return torch.cat(parts, dim=1)


class QFormer(nn.Module):
    """Learned queries that take from a picture what a text needs (BLIP-2, section 3.1).

    Args:
        num_queries: Q, the number of learned queries.
        dim, num_heads, num_layers, mlp_dim: of the transformer; ``mlp_dim`` is 4 · dim if None.
        image_dim: width of the image model's features.
        vocab_size, max_text: of the text; BERT's words and one more, [DEC].
        cross_every: the blocks 0, ``cross_every``, … have cross-attention.
        embed_dim: of the space in which ITC compares pictures and texts.
        dropout: in training.
        generator: draws the weights; None takes torch's own.

    Raises:
        ValueError: sizes that do not fit.
    """

    def __init__(
        self,
        num_queries: int = 32,
        dim: int = 768,
        num_heads: int = 12,
        num_layers: int = 12,
        image_dim: int = 1408,
        *,
        mlp_dim: int | None = None,
        vocab_size: int = 30523,
        max_text: int = 512,
        cross_every: int = 2,
        embed_dim: int = 256,
        dropout: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if min(num_queries, num_layers, image_dim, cross_every) < 1 or dim % num_heads:
            raise ValueError(
                "need num_queries, num_layers, image_dim and cross_every >= 1, and dim "
                f"divisible by num_heads: got {num_queries}, {num_layers}, {image_dim}, "
                f"{cross_every}, {dim} and {num_heads}"
            )
        self.num_queries, self.dim, self.image_dim, self.dropout = (
            num_queries, dim, image_dim, dropout,
        )  # fmt: skip
        self.image_norm = nn.LayerNorm(image_dim)  # LAVIS: ln_vision
        self.queries = nn.Parameter(torch.empty(1, num_queries, dim))
        self.words = nn.Embedding(vocab_size, dim)
        self.positions = nn.Embedding(max_text, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                num_heads,
                image_dim if i % cross_every == 0 else None,
                4 * dim if mlp_dim is None else mlp_dim,
                dropout,
            )
            for i in range(num_layers)
        )
        self.image_proj, self.text_proj = nn.Linear(dim, embed_dim), nn.Linear(dim, embed_dim)
        self.temperature = nn.Parameter(torch.tensor(0.07))
        self.match_head = nn.Linear(dim, 2)  # 0: don't belong together, 1: do
        self.word_transform = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, 1e-12)
        )
        self.word_bias = nn.Parameter(torch.zeros(vocab_size))
        for module in self.modules():  # as in BERT and LAVIS: N(0, 0.02), biases 0
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02, generator=generator)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        # Not zeros: all queries would stay equal.
        nn.init.normal_(self.queries, std=0.02, generator=generator)

    def forward(
        self,
        image: Tensor | None = None,
        ids: Tensor | None = None,
        text_mask: Tensor | None = None,
        objective: str = "itm",
    ) -> tuple[Tensor | None, Tensor | None]:
        """Queries and text as the last block leaves them: ``(B, Q, D)`` and ``(B, T, D)``.

        Args:
            image: ``(B, N, image_dim)``, the image model's features of N places; None leaves the
                queries out: the text alone.
            ids: int64 ``(B, T)``; None leaves the text out.
            text_mask: bool ``(B, T)``, False for padding; None takes all.
            objective: which mask holds between queries and text.

        Raises:
            ValueError: neither image nor text, unequal batches, wrong widths, text too long.
        """
        self._check(image, ids)
        if ids is not None and text_mask is not None and text_mask.shape != ids.shape:
            raise ValueError(f"text_mask {tuple(text_mask.shape)} is not of ids {tuple(ids.shape)}")
        parts, mask = [], None
        q = 0
        if image is not None:
            image = self.image_norm(image.to(self.image_norm.weight.dtype))
            q = self.num_queries
            parts.append(self.queries.expand(len(image), -1, -1))
        if ids is not None:
            where = torch.arange(ids.shape[1], device=ids.device)
            parts.append(self.words(ids) + self.positions(where))
            if text_mask is None:
                mask = _attention_mask(objective, q, torch.ones_like(ids, dtype=torch.bool))
            else:
                mask = attention_mask(objective, q, text_mask)
        x = self.norm(torch.cat(parts, dim=1))
        x = F.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x, q, image, mask)
        return (x[:, :q] if q else None), (x[:, q:] if ids is not None else None)

    def word_logits(self, hidden: Tensor) -> Tensor:
        """``(B, T, D)`` → ``(B, T, vocab)``; the output words are the input words, transposed."""
        return F.linear(self.word_transform(hidden), self.words.weight, self.word_bias)

    def _check(self, image: Tensor | None, ids: Tensor | None) -> None:
        if image is None and ids is None:
            raise ValueError("give image features, text ids, or both")
        if image is not None and (image.ndim != 3 or image.shape[2] != self.image_dim):
            raise ValueError(
                f"image features must be (B, N, {self.image_dim}): got {tuple(image.shape)}"
            )
        if ids is not None and (ids.ndim != 2 or ids.shape[1] > self.positions.num_embeddings):
            raise ValueError(
                f"ids must be (B, T) with T <= {self.positions.num_embeddings}: got "
                f"{tuple(ids.shape)}; cut longer texts"
            )
        if image is not None and ids is not None and len(image) != len(ids):
            raise ValueError(f"{len(image)} pictures and {len(ids)} texts: give each its text")
