"""DINOv2 on a GPU: a training step of full size, and a small training whose attention is drawn.

Chapter: ``120_self_supervised_learning/1b_dino`` (the cells that need a GPU).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlcourse.datasets import render_shapes, shape_factors
from dlcourse.self_supervised_learning._throughput import (
    StepCost,
    measure_step,
    transformer_flops,
)
from dlcourse.self_supervised_learning.augmentations import BatchViews
from dlcourse.self_supervised_learning.dino import (
    DINO,
    DINOHead,
    DINOLoss,
    blob_masks,
    iBOTLoss,
    momentum_schedule,
)
from dlcourse.self_supervised_learning.pretraining import pretrain
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

# --- A step of full size ---------------------------------------------------------------------


@dataclass(frozen=True)
class StepSizes:
    """The sizes of a DINOv2 step; the defaults are ViT-B/16's, with DINO's crops."""

    images: int = 64
    global_size: int = 224
    local_size: int = 96
    local_crops: int = 8
    patch_size: int = 16
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    out_dim: int = 65536
    hidden_dim: int = 2048
    bottleneck_dim: int = 256

    def tokens(self, size: int) -> int:
        """Of one view with a side of ``size`` pixels, the class token among them."""
        return 1 + (size // self.patch_size) ** 2

    @property
    def hidden_patches(self) -> int:
        """Patches of a batch that iBOT hides: what ``blob_masks`` always hides of so many views."""
        side = self.global_size // self.patch_size
        generator = torch.Generator().manual_seed(0)
        return int(blob_masks(2 * self.images, (side, side), generator).sum())

    def flops(self) -> float:
        """Of a whole step, by arithmetic: forward and twice as much backward for the student."""
        embedding = 2 * 3 * self.patch_size**2 * self.embed_dim

        def encoder(size: int) -> float:  # of one view, forward
            n = self.tokens(size)
            return transformer_flops(n, self.embed_dim, self.depth) + (n - 1) * embedding

        hidden = self.hidden_dim
        widths = (self.embed_dim, hidden, hidden, self.bottleneck_dim, self.out_dim)
        head = 2 * sum(a * b for a, b in zip(widths, widths[1:]))
        large, patches = 2 * self.images, self.hidden_patches
        teacher = large * (encoder(self.global_size) + head) + patches * head
        small = self.images * self.local_crops * (encoder(self.local_size) + head)
        return teacher + 3 * (teacher + small)


class TransformersEncoder(nn.Module):
    """transformers' DINOv2 backbone behind the two methods that ``DINO`` calls."""

    def __init__(self, sizes: StepSizes) -> None:
        super().__init__()
        from transformers import Dinov2Config, Dinov2Model

        config = Dinov2Config(
            hidden_size=sizes.embed_dim,
            num_hidden_layers=sizes.depth,
            num_attention_heads=sizes.num_heads,
            image_size=sizes.global_size,
            patch_size=sizes.patch_size,
            attn_implementation="sdpa",
        )
        self.model = Dinov2Model(config)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's blocks, wherever this version of the library keeps them."""
        depth = self.model.config.num_hidden_layers
        return next(
            m for m in self.model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth
        )

    def forward_features(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.model(images, bool_masked_pos=mask).last_hidden_state


class OneCropAtATime(nn.Module):
    """An encoder that makes one pass for each crop, where ``DINO`` makes one for each size."""

    def __init__(self, encoder: nn.Module, images: int) -> None:
        super().__init__()
        self.encoder, self.images = encoder, images

    def forward_features(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        crops = images.split(self.images)
        masks = [None] * len(crops) if mask is None else mask.split(self.images)
        passes = zip(crops, masks, strict=True)
        return torch.cat([self.encoder.forward_features(crop, m) for crop, m in passes])


def dino_step(
    encoder: nn.Module, sizes: StepSizes, device: torch.device, dtype: torch.dtype | None = None
) -> tuple[Callable[[], Tensor], DINO]:
    """A function that takes one whole step of DINOv2, and the model that it trains.

    A step draws ten views of each picture, hides patches, computes the three losses, and moves
    the student (AdamW, gradients cut at norm 3) and the teacher; it returns the loss.

    Args:
        encoder: with ``forward_features``.
        dtype: of matrix products under autocast; None computes in float32.
    """

    def head() -> DINOHead:
        return DINOHead(sizes.embed_dim, sizes.out_dim, sizes.hidden_dim, sizes.bottleneck_dim)

    loss = DINOLoss(sizes.out_dim, centering="sinkhorn_knopp")
    patch_loss = iBOTLoss(sizes.out_dim, centering="sinkhorn_knopp")
    model = DINO(
        encoder, head(), loss, patch_head=head(), patch_loss=patch_loss, koleo_weight=0.1
    ).to(device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    generator = torch.Generator(device).manual_seed(0)
    mask_generator = torch.Generator().manual_seed(0)  # masks on the CPU: see DINO.forward
    canvas = sizes.global_size * 8 // 7  # painted a little larger than the crops
    painted = [
        render_shapes(shape_factors(min(16, sizes.images), generator), canvas)
        for _ in range(0, sizes.images, 16)
    ]
    pictures = torch.cat(painted)[: sizes.images]
    large = BatchViews(sizes.global_size, scale=(0.32, 1.0))
    small = BatchViews(sizes.local_size, scale=(0.05, 0.32))
    side = sizes.global_size // sizes.patch_size

    def step() -> Tensor:
        views = [large(pictures, generator) for _ in range(2)]
        crops = [small(pictures, generator) for _ in range(sizes.local_crops)]
        mask = blob_masks(2 * sizes.images, (side, side), mask_generator)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            value = model(views, crops, mask=mask).total
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 3.0)
        optimizer.step()
        optimizer.zero_grad()
        model.update_teacher(0.996)
        return value.detach()

    return step, model


def compile_parts(model: DINO) -> None:
    """Compile, in place, the blocks (all alike, so compiled once) and the two losses."""
    for network in (model.student, model.teacher):
        for block in network["encoder"].blocks:
            block.compile(dynamic=False)
    model.loss.compile(dynamic=False)
    model.patch_loss.cross_entropy = torch.compile(model.patch_loss.cross_entropy, dynamic=False)


def measure_dino_step(
    kind: str,
    sizes: StepSizes,
    device: torch.device,
    dtype: torch.dtype | None,
    *,
    warmup: int = 3,
    repeats: int = 7,
) -> tuple[StepCost, float]:
    """Cost of a step, and the loss after it, for one of the forms that are compared.

    Args:
        kind: "transformers" (its backbone, the same heads and losses), "transformers compiled",
            "crop by crop" (our encoder, one pass for each crop), "eager" (one for each size), or
            "compiled" (that, compiled).

    Raises ValueError for another kind.
    """
    torch.manual_seed(0)
    if kind.startswith("transformers"):
        encoder: nn.Module = TransformersEncoder(sizes)
    elif kind in ("crop by crop", "eager", "compiled"):
        encoder = VisionTransformer(
            sizes.global_size,
            sizes.patch_size,
            embed_dim=sizes.embed_dim,
            depth=sizes.depth,
            num_heads=sizes.num_heads,
            positions="learned",
        )
        if kind == "crop by crop":
            encoder = OneCropAtATime(encoder, sizes.images)
    else:
        raise ValueError(f"unknown kind of step: {kind!r}")
    step, model = dino_step(encoder, sizes, device, dtype)
    if kind.endswith("compiled"):
        compile_parts(model)
    last = []
    cost = measure_step(lambda: last.append(step()), device, warmup=warmup, repeats=repeats)
    return cost, last[-1].item()


# --- A small training, to look at ------------------------------------------------------------


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
