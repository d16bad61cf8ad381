"""A small language model of the usual kind, with a cache of keys and values for many requests.

The shape of Llama and its followers: RMSNorm before each part, rotary positions, grouped queries,
a gated MLP, input and output embeddings tied. Everything is written out; only attention is PyTorch's.

Papers:
    Vaswani et al. (2017), *Attention Is All You Need*.
    Su et al. (2021), *RoFormer: Enhanced Transformer with Rotary Position Embedding*, equation 34.
    Ainslie et al. (2023), *GQA: Training Generalized Multi-Query Transformer Models*.
    Zhang and Sennrich (2019), *Root Mean Square Layer Normalization*.
    Shazeer (2020), *GLU Variants Improve Transformer*.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class DecoderConfig:
    """The sizes of a decoder. Raises ValueError for sizes that don't divide each other."""

    vocabulary: int = 256
    width: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 128

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1:
            raise ValueError(f"sizes must be at least 1: got {self}")
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"width must be an even multiple of heads: got {self}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads must be a multiple of kv_heads: got {self}")

    @property
    def head(self) -> int:
        """Numbers in a query, a key, or a value of one head."""
        return self.width // self.heads


SMOLLM2_135M = DecoderConfig(49_152, 576, 30, 9, 3, 1536)  # Allal et al. (2025), without its weights


class CacheFull(RuntimeError):
    """No slot is free, or a request is longer than a slot."""


class KVCache:
    """Keys and values of up to ``slots`` requests, each of at most ``length`` tokens.

    All memory is taken at the start, so that it can't grow under load:
    2 · layers · slots · length · kv_heads · head numbers. A slot is given to one request and has
    room for the longest; pages (Kwon et al. 2023) would waste less.

    Attributes:
        keys, values: ``(layers, slots, kv_heads, length, head)``.
        lengths: ``(slots,)`` int64, tokens that are kept of each.
    """

    def __init__(
        self, config: DecoderConfig, slots: int, length: int, like: Tensor | None = None
    ) -> None:
        if slots < 1 or length < 1:
            raise ValueError(f"slots and length must be at least 1: got {slots} and {length}")
        shape = (config.layers, slots, config.kv_heads, length, config.head)
        kind = {} if like is None else {"dtype": like.dtype, "device": like.device}
        self.keys, self.values = torch.zeros(shape, **kind), torch.zeros(shape, **kind)
        self.lengths = torch.zeros(slots, dtype=torch.int64, device=self.keys.device)
        self.slots, self.length = slots, length
        self._free = list(range(slots))[::-1]

    @property
    def num_free(self) -> int:
        """Slots that nobody has."""
        return len(self._free)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def take(self) -> int:
        """A free slot, empty. Raises CacheFull where there is none."""
        if not self._free:
            raise CacheFull(f"all {self.slots} slots are taken: wait until a request ends")
        slot = self._free.pop()
        self.lengths[slot] = 0
        return slot

    def give_back(self, slot: int) -> None:
        """Free a slot. Raises ValueError for one that is free."""
        if slot in self._free or not 0 <= slot < self.slots:
            raise ValueError(f"slot {slot} is not taken")
        self._free.append(slot)


def rotate(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Rotary positions: pairs (x_i, x_{i + d/2}) are turned by position · base^(−2i/d).

    Args:
        x: ``(b, heads, n, d)``, d even.
        positions: ``(b, n)`` int64.

    Returns x turned, so that q · k depends on the difference of their positions only.
    """
    d = x.shape[-1]
    speed = base ** (-torch.arange(0, d, 2, device=x.device, dtype=torch.float32) / d)  # (d/2,)
    angle = positions[:, None, :, None] * speed  # (b, 1, n, d/2)
    cos, sin = angle.cos(), angle.sin()
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class Block(nn.Module):
    """Attention, then the MLP, each on a normalised input and added to it."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        c, d = config, config.head
        self.config = config
        self.norm1, self.norm2 = nn.RMSNorm(c.width, eps=1e-5), nn.RMSNorm(c.width, eps=1e-5)
        self.query = nn.Linear(c.width, c.heads * d, bias=False)
        self.key = nn.Linear(c.width, c.kv_heads * d, bias=False)
        self.value = nn.Linear(c.width, c.kv_heads * d, bias=False)
        self.out = nn.Linear(c.heads * d, c.width, bias=False)
        self.gate = nn.Linear(c.width, c.hidden, bias=False)
        self.up = nn.Linear(c.width, c.hidden, bias=False)
        self.down = nn.Linear(c.hidden, c.width, bias=False)

    def forward(
        self, x: Tensor, positions: Tensor, layer: int, cache: KVCache | None, slots: Tensor | None
    ) -> Tensor:
        """x: ``(b, n, width)``; positions: ``(b, n)``; slots: ``(b,)``, where there is a cache."""
        c, (b, n, _) = self.config, x.shape
        h = self.norm1(x)
        q = self.query(h).view(b, n, c.heads, c.head).transpose(1, 2)  # (b, heads, n, d)
        k = self.key(h).view(b, n, c.kv_heads, c.head).transpose(1, 2)  # (b, kv_heads, n, d)
        v = self.value(h).view(b, n, c.kv_heads, c.head).transpose(1, 2)
        q, k = rotate(q, positions), rotate(k, positions)
        if cache is None:
            h = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            # Row r writes its n tokens at its own positions; the others of its slot stay.
            keys, values = cache.keys[layer], cache.values[layer]  # (slots, kv_heads, length, d)
            keys[slots[:, None], :, positions] = k.transpose(1, 2)
            values[slots[:, None], :, positions] = v.transpose(1, 2)
            until = int(positions.max()) + 1 if x.device.type == "cpu" else cache.length
            k, v = keys[slots, :, :until], values[slots, :, :until]  # (b, kv_heads, until, d)
            # A query sees what is at its own position or before it: of its slot, nothing older.
            visible = torch.arange(until, device=x.device) <= positions[..., None]  # (b, n, until)
            h = F.scaled_dot_product_attention(
                q, k, v, attn_mask=visible[:, None], enable_gqa=True
            )
        x = x + self.out(h.transpose(1, 2).reshape(b, n, -1))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Decoder(nn.Module):
    """Tokens ``(b, n)`` to logits of the next one.

    Without a cache all n logits, ``(b, n, vocabulary)``. With one, row r goes on where its slot
    ends, n new tokens each, and the logits after the last of them are given, ``(b, vocabulary)``.
    """

    def __init__(self, config: DecoderConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=1e-5)
        generator = torch.Generator().manual_seed(seed)
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=p.shape[1] ** -0.5, generator=generator)

    def forward(
        self, tokens: Tensor, cache: KVCache | None = None, slots: Tensor | None = None
    ) -> Tensor:
        """See the class.

        Raises ValueError for other shapes, or slots without a cache; CacheFull where a slot has no
        room for n more tokens.
        """
        if tokens.ndim != 2 or tokens.shape[1] < 1 or tokens.dtype != torch.int64:
            raise ValueError(f"tokens must be int64 of shape (b, n ≥ 1): got {tokens.shape}")
        if (cache is None) != (slots is None):
            raise ValueError("give both a cache and the slot of each row, or neither")
        b, n = tokens.shape
        offsets = torch.arange(n, device=tokens.device)
        if cache is None:
            positions = offsets.expand(b, n)
        else:
            if slots.shape != (b,):
                raise ValueError(f"slots must have shape ({b},): got {tuple(slots.shape)}")
            positions = cache.lengths[slots][:, None] + offsets  # (b, n)
            if tokens.device.type == "cpu" and int(positions.max()) >= cache.length:
                raise CacheFull(f"a slot has room for {cache.length} tokens")
        x = self.embedding(tokens)
        for layer, block in enumerate(self.blocks):
            x = block(x, positions, layer, cache, slots)
        if cache is not None:
            cache.lengths[slots] += n
            x = x[:, -1]  # nobody asks for the logits before
        return self.norm(x) @ self.embedding.weight.T


@torch.no_grad()
def generate(model: Decoder, prompt: Tensor, count: int) -> Tensor:
    """The ``count`` likeliest tokens after a prompt ``(n,)``, all read anew for each: no cache.

    The readable reference: O(n²) work for a token, and no state. Returns int64 ``(count,)``.
    """
    tokens = prompt[None]
    for _ in range(count):
        following = model(tokens)[:, -1].argmax(-1)
        tokens = torch.cat([tokens, following[:, None]], dim=1)
    return tokens[0, len(prompt) :]
