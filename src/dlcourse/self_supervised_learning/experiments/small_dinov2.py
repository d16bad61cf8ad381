"""A small DINOv2 on painted shapes, and how much of its attention falls on the shape; beside it the
same ViT trained with labels.

Chapter: ``120_self_supervised_learning/1b_dino`` (a recorded cell).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlcourse.datasets import SHAPES, render_shapes, shape_factors
from dlcourse.self_supervised_learning.augmentations.batch_views import BatchViews
from dlcourse.self_supervised_learning.dino.dino_loss import DINOLoss
from dlcourse.self_supervised_learning.dino.head import DINOHead
from dlcourse.self_supervised_learning.dino.ibot_loss import iBOTLoss
from dlcourse.self_supervised_learning.dino.masks import blob_masks
from dlcourse.self_supervised_learning.dino.model import DINO
from dlcourse.self_supervised_learning.dino.teacher import momentum_schedule
from dlcourse.self_supervised_learning.pretraining import pretrain
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = [
    "Looks",
    "Trained",
    "attention_on_shape",
    "compare_attention",
    "shape_pixels",
    "train_small_dinov2",
    "train_supervised",
]


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

    Two global views of the full size and four local ones of half of it; Sinkhorn–Knopp, as in
    DINOv2; ``compiled`` compiles the blocks.
    """
    generator = torch.Generator().manual_seed(seed)
    encoder = _encoder(image_size, patch_size, embed_dim, depth, num_heads, generator)

    def head() -> DINOHead:
        return DINOHead(embed_dim, prototypes, 4 * embed_dim, embed_dim // 2, generator=generator)

    settings = {
        "teacher_temp": teacher_temp,
        "warmup_teacher_temp": teacher_temp,
        "centering": "sinkhorn_knopp",
    }
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
            _compile(network["encoder"])

    images, _ = _painted(pictures, image_size, device, seed)
    large = BatchViews(image_size, scale=(0.4, 1.0))
    small = BatchViews(image_size // 2, scale=(0.1, 0.4))
    side = image_size // patch_size
    masker = torch.Generator().manual_seed(seed)

    def loss(indices: Tensor, g: torch.Generator) -> Tensor:
        x = images[indices]
        mask = blob_masks(2 * len(x), (side, side), masker)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            # one call for all views of a size: see dino_step
            views = large(x.repeat(2, 1, 1, 1), g).chunk(2)
            crops = small(x.repeat(4, 1, 1, 1), g).chunk(4)
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


def train_supervised(
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
    lr: float = 1e-3,
    dtype: torch.dtype | None = None,
    compiled: bool = False,
    seed: int = 0,
) -> VisionTransformer:
    """Train the same ViT on the same pictures to name the shape, one global view a step."""
    generator = torch.Generator().manual_seed(seed)
    encoder = _encoder(image_size, patch_size, embed_dim, depth, num_heads, generator).to(device)
    encoder.mask_token.requires_grad_(False)
    images, labels = _painted(pictures, image_size, device, seed)
    head = nn.Linear(embed_dim, len(SHAPES), device=device)
    network = nn.Sequential(encoder, head)
    if compiled:
        _compile(encoder)
    large = BatchViews(image_size, scale=(0.4, 1.0))

    def loss(indices: Tensor, g: torch.Generator) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            named = network(large(images[indices], g))
        return nn.functional.cross_entropy(named.float(), labels[indices])

    pretrain(
        network, loss, len(images), steps=steps, batch_size=batch_size, lr=lr, max_grad_norm=3.0,
        seed=seed,
    )  # fmt: skip
    return encoder


def _encoder(
    image_size: int,
    patch_size: int,
    embed_dim: int,
    depth: int,
    num_heads: int,
    generator: torch.Generator,
) -> VisionTransformer:
    return VisionTransformer(
        image_size,
        patch_size,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        positions="learned",  # as in DINO; the fixed ones drown the picture in their colours
        generator=generator,
    )


def _compile(encoder: VisionTransformer) -> None:
    for block in encoder.blocks:
        block.compile(dynamic=False)


def _painted(n: int, image_size: int, device: torch.device, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures (n, 3, S, S) and the number of each one's shape (n,), made on the device."""
    painter = torch.Generator(device).manual_seed(seed)
    images, labels = [], []
    for start in range(0, n, 1000):
        factors = shape_factors(min(1000, n - start), painter, max_turn=0.15)
        images.append(render_shapes(factors, image_size))
        labels.append(factors.shape)
    return torch.cat(images), torch.cat(labels).long()


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


class Looks(NamedTuple):
    """What ``compare_attention`` returns."""

    share: dict[str, list[float]]  # network → of its chosen head's attention, one value a seed
    area: float  # share of the pictures that the shapes cover
    encoders: dict[str, VisionTransformer]  # of the first seed, on the CPU
    heads: dict[str, int]  # that were chosen for them


def compare_attention(
    device: torch.device,
    *,
    steps: int,
    seeds: Sequence[int] = (0, 1, 2),
    image_size: int = 64,
    pictures: int = 20000,
    looked_at: int = 500,
    **settings: Any,
) -> Looks:
    """Attention on the shape by an untrained ViT, one trained with labels, and a small DINOv2.

    All three have one size, and the two trainings as many steps. For each network the head that
    looks most at the shape is chosen on ``looked_at`` pictures; its share is then measured on as
    many others. Neither were trained on.
    """
    choose = shape_pixels(looked_at, image_size, seed=1001)
    report = shape_pixels(looked_at, image_size, seed=1002)
    share: dict[str, list[float]] = {}
    encoders, heads = {}, {}
    for seed in seeds:
        size = {"image_size": image_size, "pictures": pictures, "seed": seed, **settings}
        still = {"compiled": False, "pictures": settings.get("batch_size", 256)}
        networks = {
            "untrained": train_supervised(device, steps=1, **{**size, **still, "lr": 0.0}),
            "with labels": train_supervised(device, steps=steps, **size),
            "DINOv2": train_small_dinov2(device, steps=steps, **size).model.teacher["encoder"],
        }
        for name, encoder in networks.items():
            encoder = encoder.float().cpu()
            head = int(attention_on_shape(encoder, *choose).argmax())
            value = attention_on_shape(encoder, *report)[head].item()
            share.setdefault(name, []).append(value)
            if seed == seeds[0]:
                encoders[name], heads[name] = encoder, head
    return Looks(share, report[1].float().mean().item(), encoders, heads)
