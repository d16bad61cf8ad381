"""CLIP's two towers: a vision transformer and a causal text transformer.

Chapter: ``121_multimodal_fusion/2a_clip``.

Papers:
    Radford et al. (2021), sections 2.4 and 2.5, and OpenAI's released models.
    Dosovitskiy et al. (2021), *An Image Is Worth 16x16 Words*.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.multimodal_fusion.clip.checks import check_images, check_tokens
from dlcourse.multimodal_fusion.clip.tokenizer import END

__all__ = ["Block", "TextTower", "VisionTower", "quick_gelu"]


def quick_gelu(x: Tensor) -> Tensor:
    """x · σ(1.702 x), the approximation that OpenAI's models were trained with."""
    return x * torch.sigmoid(1.702 * x)


def narrowed(x: Tensor) -> Tensor:
    """x in autocast's type where that is on: what runs past the blocks is then half as wide."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


class Block(nn.Module):
    """A pre-norm transformer block: (B, L, width) → the same."""

    def __init__(self, width: int, heads: int, causal: bool, activation=F.gelu) -> None:
        super().__init__()
        self.heads, self.causal, self.activation = heads, causal, activation
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        # (B, heads, L, width / heads). Causal: position i sees 1 … i.
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(seen.transpose(1, 2).reshape(b, n, d))
        return x + self.narrow(self.activation(self.wide(self.norm2(x))))


def _initialise(tower: nn.Module, blocks: nn.ModuleList, width: int) -> None:
    """The released models' initial weights: σ falls with width, in residual paths with depth."""
    attention, residual = width**-0.5, width**-0.5 * (2 * max(1, len(blocks))) ** -0.5
    for block in blocks:
        for layer, std in (
            (block.qkv, attention),
            (block.out, residual),
            (block.wide, (2 * width) ** -0.5),
            (block.narrow, residual),
        ):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)


def _check_shape(width: int, depth: int, heads: int) -> None:
    if min(width, heads) < 1 or depth < 0 or width % heads:
        raise ValueError(
            f"need width >= 1, depth >= 0 and a number of heads that divides the width, got "
            f"width {width}, depth {depth}, heads {heads}"
        )


class VisionTower(nn.Module):
    """A vision transformer read at its class token: (B, channels, S, S) → (B, width).

    As in CLIP, and unlike the plain ViT, the patches have no bias, and there is a LayerNorm before
    the first block as well as on the class token after the last.

    Args:
        image_size, patch_size: S and p, pixels; p divides S.
        width, depth, heads: of the transformer.
        activation: of the MLPs; ``quick_gelu`` for OpenAI's weights.

    Raises ValueError for sizes that do not fit; when called: images of another shape, or of whole
    numbers (TypeError).
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 32,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        channels: int = 3,
        activation=F.gelu,
    ) -> None:
        super().__init__()
        _check_shape(width, depth, heads)
        if patch_size < 1 or image_size % patch_size:
            raise ValueError(f"patches of {patch_size} pixels do not fill {image_size} pixels")
        self.image_size, self.channels, self.embed_dim = image_size, channels, width
        self.patch = nn.Conv2d(channels, width, patch_size, patch_size, bias=False)
        count = (image_size // patch_size) ** 2
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positions = nn.Parameter(width**-0.5 * torch.randn(1 + count, width))
        self.norm_before, self.norm_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, False, activation) for _ in range(depth))
        _initialise(self, self.blocks, width)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, self.channels, self.image_size)
        patches = self.patch(images).flatten(2).mT  # (B, N, width)
        first = self.class_token.to(patches.dtype).expand(len(images), 1, -1)
        x = torch.cat([first, patches], 1) + self.positions.to(patches.dtype)  # (B, 1 + N, width)
        x = narrowed(self.norm_before(x))
        for block in self.blocks:
            x = block(x)
        return self.norm_after(x[:, 0])


class TextTower(nn.Module):
    """A causal transformer read at the end of the text: (B, L) tokens → (B, width).

    The end is the first place of the token ``end``, which alone has seen the whole text. What
    follows it is never seen by it: padding needs no mask, and a batch may be cut after its longest
    text without a change.

    Args:
        vocabulary: number of tokens.
        context: most tokens that a text may have.
        width, depth, heads: of the transformer.
        end: the token that ends a text.
        activation: of the MLPs.

    Raises ValueError for sizes that do not fit; when called: tokens that are not (B, L <= context)
    or out of the vocabulary, and on a CPU a text without an end.
    """

    def __init__(
        self,
        vocabulary: int = 49408,
        context: int = 77,
        width: int = 512,
        depth: int = 12,
        heads: int = 8,
        end: int = END,
        activation=F.gelu,
    ) -> None:
        super().__init__()
        _check_shape(width, depth, heads)
        if not 0 <= end < vocabulary or context < 1:
            raise ValueError(f"need 0 <= end < vocabulary and context >= 1: {end}, {vocabulary}")
        self.vocabulary, self.context, self.end, self.embed_dim = vocabulary, context, end, width
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.positions = nn.Parameter(0.01 * torch.randn(context, width))
        self.blocks = nn.ModuleList(Block(width, heads, True, activation) for _ in range(depth))
        self.norm_after = nn.LayerNorm(width)
        _initialise(self, self.blocks, width)

    def forward(self, tokens: Tensor) -> Tensor:
        check_tokens(tokens, self.context, self.vocabulary)
        is_end = tokens == self.end  # (B, L)
        if tokens.device.type == "cpu" and not is_end.any(1).all():
            row = int((~is_end.any(1)).nonzero()[0])
            raise ValueError(f"text {row} has no end token ({self.end}): call a tokenizer first")
        x = narrowed(self.embedding(tokens) + self.positions[: tokens.shape[1]])  # (B, L, width)
        for block in self.blocks:
            x = block(x)
        last = is_end.int().argmax(1)  # (B,): the first end
        return self.norm_after(x[torch.arange(len(x), device=x.device), last])
