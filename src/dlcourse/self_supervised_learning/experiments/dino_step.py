"""What a DINOv2 step of full size costs on a GPU, in several forms that do the same work.

Chapter: ``120_self_supervised_learning/1b_dino`` (a recorded cell).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlcourse.datasets import render_shapes, shape_factors
from dlcourse.measure import StepCost, measure_step, transformer_flops
from dlcourse.self_supervised_learning.augmentations.batch_views import BatchViews
from dlcourse.self_supervised_learning.dino.dino_loss import DINOLoss
from dlcourse.self_supervised_learning.dino.head import DINOHead
from dlcourse.self_supervised_learning.dino.ibot_loss import iBOTLoss
from dlcourse.self_supervised_learning.dino.masks import blob_masks
from dlcourse.self_supervised_learning.dino.model import DINO
from dlcourse.self_supervised_learning.peers import TransformersEncoder
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = ["OneCropAtATime", "StepSizes", "compile_parts", "dino_step", "measure_dino_step"]


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

    Raises ValueError for another kind; the first two need transformers.
    """
    torch.manual_seed(0)
    if kind.startswith("transformers"):
        encoder: nn.Module = TransformersEncoder(
            sizes.global_size,
            sizes.patch_size,
            embed_dim=sizes.embed_dim,
            depth=sizes.depth,
            num_heads=sizes.num_heads,
        )
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
