"""A small DINOv2 on painted shapes, and how much of its attention falls on the shape.

Chapter: ``120_self_supervised_learning/1b_dino`` (a recorded cell).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlcourse.datasets import render_shapes, shape_factors
from dlcourse.self_supervised_learning.augmentations.batch_views import BatchViews
from dlcourse.self_supervised_learning.dino.dino_loss import DINOLoss
from dlcourse.self_supervised_learning.dino.head import DINOHead
from dlcourse.self_supervised_learning.dino.ibot_loss import iBOTLoss
from dlcourse.self_supervised_learning.dino.masks import blob_masks
from dlcourse.self_supervised_learning.dino.model import DINO
from dlcourse.self_supervised_learning.dino.teacher import momentum_schedule
from dlcourse.self_supervised_learning.pretraining import pretrain
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = ["Trained", "attention_on_shape", "shape_pixels", "train_small_dinov2"]


class Trained(NamedTuple):
    """What ``train_small_dinov2`` returns."""

    model: DINO
    losses: list[float]


def train_small_dinov2(
    device: torch.device,
    *,
    steps: int,
    image_size: int = 64,
    patch_size: int = 8,
    embed_dim: int = 128,
    depth: int = 4,
    num_heads: int = 4,
    batch_size: int = 256,
    pictures: int = 20000,
    prototypes: int = 1024,
    teacher_temp: float = 0.04,
    momentum: tuple[float, float] = (0.99, 0.999),
    lr: float = 1e-3,
    dtype: torch.dtype | None = None,
    compiled: bool = False,
    seed: int = 0,
) -> Trained:
    """Train a small ViT on painted shapes with the three terms of DINOv2, without labels.

    Two global views of the full size and four local ones of half of it; DINO's centering; the
    last argument but one compiles the blocks.
    """
    generator = torch.Generator().manual_seed(seed)
    encoder = VisionTransformer(
        image_size,
        patch_size,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        positions="learned",  # as in DINO; the fixed ones drown the picture in their colours
        generator=generator,
    )

    def head() -> DINOHead:
        return DINOHead(embed_dim, prototypes, 4 * embed_dim, embed_dim // 2, generator=generator)

    settings = {"teacher_temp": teacher_temp, "warmup_teacher_temp": teacher_temp}
    model = DINO(
        encoder,
        head(),
        DINOLoss(prototypes, **settings),
        patch_head=head(),
        patch_loss=iBOTLoss(prototypes, **settings),
        koleo_weight=0.1,
    ).to(device)
    if compiled:
        for network in (model.student, model.teacher):
            for block in network["encoder"].blocks:
                block.compile(dynamic=False)

    painter = torch.Generator(device).manual_seed(seed)
    images = torch.cat(
        [
            render_shapes(shape_factors(min(1000, pictures), painter, max_turn=0.15), image_size)
            for _ in range(0, pictures, 1000)
        ]
    )
    large = BatchViews(image_size, scale=(0.4, 1.0))
    small = BatchViews(image_size // 2, scale=(0.1, 0.4))
    side = image_size // patch_size
    masker = torch.Generator().manual_seed(seed)

    def loss(indices: Tensor, g: torch.Generator) -> Tensor:
        x = images[indices]
        mask = blob_masks(2 * len(x), (side, side), masker)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            views, crops = [large(x, g) for _ in range(2)], [small(x, g) for _ in range(4)]
            return model(views, crops, mask=mask).total

    losses = pretrain(
        model,
        loss,
        len(images),
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        max_grad_norm=3.0,
        seed=seed,
        after_step=lambda taken: model.update_teacher(momentum_schedule(taken, steps, *momentum)),
    )
    return Trained(model, losses)


def shape_pixels(n: int, image_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures (n, 3, S, S), and which of their pixels the shape covers: (n, S, S), bool.

    The same picture is painted once more with the shape in another hue: what changed is the shape.
    """
    factors = shape_factors(n, torch.Generator().manual_seed(seed), max_turn=0.15)
    images = render_shapes(factors, image_size)
    other = render_shapes(factors._replace(hue=(factors.hue + 3) % 6), image_size)
    return images, (images - other).abs().amax(1) > 0.1


@torch.no_grad()
def attention_on_shape(encoder: VisionTransformer, images: Tensor, pixels: Tensor) -> Tensor:
    """Share of the class token's attention that falls on patches of the shape, for each head.

    Args:
        images: (B, C, H, W).
        pixels: (B, H, W), true on the shape. A patch counts by the share of it that is covered.

    Returns:
        (heads,), to be compared with the shape's share of the area, ``pixels.float().mean()``.
    """
    p = encoder.patch_size
    cover = nn.functional.avg_pool2d(pixels.float()[:, None], p)  # (B, 1, rows, columns)
    attention = encoder.class_attention(images)  # (B, H, rows, columns)
    attention = attention / attention.sum((2, 3), keepdim=True)
    return (attention * cover).sum((2, 3)).mean(0)
