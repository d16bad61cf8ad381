"""A Vision Transformer for the visible patches, a small one to paint the hidden ones.

Chapter: ``120_self_supervised_learning/2_masked_autoencoders``.

Paper: He et al. (2022), *Masked Autoencoders Are Scalable Vision Learners*.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.self_supervised_learning.masked_autoencoders.masking import (
    random_masking,
    shuffled,
    take,
    visible_count,
)
from dlcourse.self_supervised_learning.patches import (
    check_images,
    patchify,
    sincos_positions,
    unpatchify,
)
from dlcourse.self_supervised_learning.vision_transformer import (
    Block,
    VisionTransformer,
    initialize,
)

__all__ = ["EPS", "MaskedAutoencoder"]

EPS = 1e-6  # added to the variance of a patch, which is 0 where the patch has one colour


class MaskedAutoencoder(nn.Module):
    """A Vision Transformer for the visible patches, a small one to paint the hidden ones.

    Args:
        encoder: sees visible patches only. It is what one keeps after the pre-training.
        decoder_dim: width of the decoder, a multiple of 4 and of decoder_heads.
        decoder_depth: its number of blocks.
        decoder_heads: attention heads a block.
        mask_ratio: share of hidden patches, inside (0, 1).
        norm_pix_loss: whether the target is each patch normalised by its own mean and standard
            deviation, or its pixels.
        generator: draws the decoder's initial weights; by default torch's global generator.

    The default decoder is the paper's for pre-training on 224 × 224 pixels.

    Raises ValueError when the sizes do not fit, or mask_ratio is out of range.

    Source: He et al. (2022), section 3.
    """

    def __init__(
        self,
        encoder: VisionTransformer,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        mask_ratio: float = 0.75,
        norm_pix_loss: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        visible_count(encoder.num_patches, mask_ratio)  # raises early
        if decoder_dim % decoder_heads or decoder_depth < 1:
            raise ValueError(
                f"need decoder_depth >= 1 and decoder_dim a multiple of decoder_heads, got "
                f"{decoder_depth}, {decoder_dim} and {decoder_heads}"
            )
        self.mask_ratio, self.norm_pix_loss = mask_ratio, norm_pix_loss
        self.decoder_embedding = nn.Linear(encoder.embed_dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        positions = sincos_positions(decoder_dim, encoder.grid)[None]  # (1, N, D')
        self.register_buffer("decoder_positions", positions)
        self.decoder_blocks = nn.ModuleList(
            Block(decoder_dim, decoder_heads) for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder_dim, eps=1e-6)
        pixels = encoder.patch_size**2 * encoder.in_channels
        self.to_pixels = nn.Linear(decoder_dim, pixels)
        initialize(self, generator)  # before the encoder comes in: that has its weights already
        self.encoder = encoder

    def forward(
        self,
        images: Tensor,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mask, encode, decode: (B, C, H, W) → loss, prediction, mask.

        Args:
            images: floating point, of the encoder's size.
            noise, generator: as in ``random_masking``.

        Returns:
            loss: the mean squared error over the hidden patches, a scalar.
            prediction: (B, N, p·p·C), every patch, in the units of ``target``.
            mask: (B, N), 1 where a patch was hidden.

        Raises:
            TypeError: images are not floating point.
            ValueError: images or noise have another shape.
        """
        self._check(images)
        x = self.encoder.embed_patches(images)  # (B, N, D)
        x = x + self.encoder.positions(images.shape[-2:])  # before any patch goes
        visible, mask, ids_restore = random_masking(x, self.mask_ratio, generator, noise)
        encoded = self.encoder.encode(visible)  # (B, 1 + N', D)
        prediction = self.decode(encoded, ids_restore)  # (B, N, p·p·C)
        error = (prediction - self.target(images)).square().mean(2)  # (B, N)
        loss = (error * mask).sum() / mask.sum()  # hidden patches only
        return loss, prediction, mask

    def decode(self, encoded: Tensor, ids_restore: Tensor) -> Tensor:
        """Paint every patch from the visible ones: (B, 1 + N', D) → (B, N, p·p·C)."""
        y = self.decoder_embedding(encoded)  # (B, 1 + N', D')
        b, n = ids_restore.shape
        hidden = self.mask_token.expand(b, n + 1 - y.shape[1], -1)  # one vector for all
        patches = torch.cat([y[:, 1:], hidden], 1)  # (B, N, D'), still shuffled
        patches = take(patches, ids_restore) + self.decoder_positions
        y = torch.cat([y[:, :1], patches], 1)  # the class token first, its position is 0
        for block in self.decoder_blocks:
            y = block(y)
        return self.to_pixels(self.decoder_norm(y))[:, 1:]

    def target(self, images: Tensor) -> Tensor:
        """What the decoder should say: (B, C, H, W) → (B, N, p·p·C)."""
        return self._targets(patchify(images, self.encoder.patch_size))

    def _targets(self, patches: Tensor) -> Tensor:
        """(B, K, p·p·C) → the same, normalised patch by patch if ``norm_pix_loss``."""
        if not self.norm_pix_loss:
            return patches
        mean, variance = _moments(patches)
        return (patches - mean) / (variance + EPS).sqrt()

    def training_loss(
        self,
        images: Tensor,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``forward(images, noise, generator)[0]``, for less work.

        Patches are chosen before they are embedded, so that hidden ones are not; and they are
        never put back in order: a transformer knows places by their positions alone, so it is the
        positions that are shuffled. Hidden patches are then the last rows, and the last block,
        the projection to pixels, the target and the error are computed for these only.

        Arguments, result and errors are those of ``forward``.
        """
        self._check(images)
        patches = patchify(images, self.encoder.patch_size)  # (B, N, p·p·C)
        b, n, _ = patches.shape
        keep = visible_count(n, self.mask_ratio)
        order = shuffled(b, n, images.device, generator, noise)  # (B, N), visible ones first
        seen, hidden = order[:, :keep], order[:, keep:]

        x = self.encoder.patch_embedding(take(patches, seen))  # (B, N', D)
        x = x + self.encoder.positions(images.shape[-2:])[0][seen]
        y = self.decoder_embedding(self.encoder.encode(x))  # (B, 1 + N', D')
        places = self.decoder_positions[0]  # (N, D')
        visible = y[:, 1:] + places[seen]
        y = torch.cat([y[:, :1], visible, self.mask_token + places[hidden]], 1)
        for block in self.decoder_blocks[:-1]:
            y = block(y)
        y = _block_for_last(self.decoder_blocks[-1], y, n - keep)  # (B, N − N', D')
        prediction = self.to_pixels(self.decoder_norm(y))
        return (prediction - self._targets(take(patches, hidden))).square().mean()

    @torch.no_grad()
    def reconstruct(
        self,
        images: Tensor,
        mask_ratio: float | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The images with their hidden patches painted by the decoder, to look at.

        With ``norm_pix_loss`` the decoder does not say how bright a patch is, nor how strong its
        contrast: both are taken from the original. So the picture flatters it.

        Args:
            mask_ratio: another one than the model was trained with.

        Returns:
            (B, C, H, W), visible patches as they are; and the mask, (B, N).
        """
        self._check(images)
        x = self.encoder.embed_patches(images) + self.encoder.positions(images.shape[-2:])
        ratio = self.mask_ratio if mask_ratio is None else mask_ratio
        visible, mask, ids_restore = random_masking(x, ratio, generator, noise)
        painted = self.decode(self.encoder.encode(visible), ids_restore)
        patches = patchify(images, self.encoder.patch_size)
        if self.norm_pix_loss:
            mean, variance = _moments(patches)
            painted = painted * (variance + EPS).sqrt() + mean
        patches = torch.where(mask.bool()[..., None], painted.to(patches.dtype), patches)
        return unpatchify(patches, self.encoder.patch_size, self.encoder.image_size), mask

    def _check(self, images: Tensor) -> None:
        check_images(images, self.encoder.in_channels)
        if images.shape[-2:] != self.encoder.image_size:
            h, w = self.encoder.image_size
            raise ValueError(
                f"this model paints images of {h} × {w}, got {images.shape[2]} × "
                f"{images.shape[3]}: resize or crop them"
            )


def _moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of each patch over its pixels and channels: (B, K, 1) each."""
    return patches.mean(2, keepdim=True), patches.var(2, keepdim=True)


def _block_for_last(block: Block, x: Tensor, count: int) -> Tensor:
    """``block(x)[:, -count:]``, computed for these tokens alone: (B, N, D) → (B, count, D).

    They look at all tokens, so keys and values are needed of all, queries only of them.
    """
    attention, d = block.attention, x.shape[2]
    weight, bias = attention.qkv.weight, attention.qkv.bias
    last, y = x[:, -count:], block.norm1(x)

    def heads(z: Tensor) -> Tensor:
        return z.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)  # (B, H, ·, D / H)

    q = heads(F.linear(y[:, -count:], weight[:d], bias[:d]))
    k, v = (heads(z) for z in F.linear(y, weight[d:], bias[d:]).chunk(2, 2))
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    last = last + attention.proj(mixed)
    return last + block.mlp(block.norm2(last))
