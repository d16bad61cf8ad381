"""What a DINOv2 step of full size costs on a GPU, in several forms that do the same work.

Chapter: ``120_self_supervised_learning/1b_dino`` (a recorded cell).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlcourse.datasets import render_shapes, shape_factors
from dlcourse.measure import StepCost, measure_step, time_call, transformer_flops
from dlcourse.self_supervised_learning.augmentations.batch_views import BatchViews
from dlcourse.self_supervised_learning.dino.dino_loss import DINOLoss
from dlcourse.self_supervised_learning.dino.head import DINOHead
from dlcourse.self_supervised_learning.dino.ibot_loss import iBOTLoss
from dlcourse.self_supervised_learning.dino.masks import blob_masks
from dlcourse.self_supervised_learning.dino.model import DINO
from dlcourse.self_supervised_learning.peers import TransformersEncoder
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = [
    "KINDS",
    "OneCropAtATime",
    "StepSizes",
    "Timed",
    "compare_dino_steps",
    "compile_parts",
    "dino_step",
    "measure_dino_step",
    "ratios",
]

KINDS = ("transformers", "crop by crop", "eager", "transformers compiled", "compiled")


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
        # One call for all views of a size: on a GPU a call's many small kernels cost more to start
        # than to run.
        views = large(pictures.repeat(2, 1, 1, 1), generator).chunk(2)
        crops = small(pictures.repeat(sizes.local_crops, 1, 1, 1), generator)
        crops = crops.chunk(sizes.local_crops)
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


def _prepared(
    kind: str, sizes: StepSizes, device: torch.device, dtype: torch.dtype | None
) -> Callable[[], Tensor]:
    """The step of one of KINDS, ready to be called."""
    torch.manual_seed(0)
    if kind.startswith("transformers"):
        encoder: nn.Module = TransformersEncoder(
            sizes.global_size,
            sizes.patch_size,
            embed_dim=sizes.embed_dim,
            depth=sizes.depth,
            num_heads=sizes.num_heads,
        )
    elif kind in KINDS:
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
    return step


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
    step = _prepared(kind, sizes, device, dtype)
    last = []
    cost = measure_step(lambda: last.append(step()), device, warmup=warmup, repeats=repeats)
    return cost, last[-1].item()


class Timed(NamedTuple):
    """What ``compare_dino_steps`` saw of one form."""

    seconds: list[float]  # of one step, one value a round
    peak_bytes: int | None  # most memory that its steps held, with every other form's weights
    loss: float  # after its last step


def compare_dino_steps(
    kinds: Sequence[str],
    sizes: StepSizes,
    device: torch.device,
    dtype: torch.dtype | None,
    *,
    rounds: int = 7,
    steps: int = 3,
    warmup: int = 3,
) -> dict[str, Timed]:
    """Times of several forms of the step, taken in turn, so that a drift meets all of them alike.

    Args:
        kinds: of KINDS.
        rounds: in each, every form takes ``steps`` steps, of which the mean time is kept.
        warmup: steps of each form before the first round (the first compiles).

    Raises ValueError for another kind and for counts below 1; two kinds need transformers.
    """
    if rounds < 1 or steps < 1 or warmup < 1:
        raise ValueError(f"need counts of at least 1, got {rounds}, {steps} and {warmup}")
    prepared, peaks = {}, {}
    for kind in kinds:
        step = prepared[kind] = _prepared(kind, sizes, device, dtype)
        for _ in range(warmup):
            step()
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    losses = {}
    for turn in range(rounds):
        for kind, step in prepared.items():
            if device.type == "cuda" and turn == 0:
                torch.cuda.reset_peak_memory_stats(device)

            def several(kind: str = kind, step: Callable[[], Tensor] = step) -> None:
                for _ in range(steps):
                    losses[kind] = step()

            seconds[kind].append(time_call(several, device) / steps)
            if device.type == "cuda" and turn == 0:
                peaks[kind] = torch.cuda.max_memory_allocated(device)
    return {
        kind: Timed(seconds[kind], peaks.get(kind), losses[kind].item()) for kind in kinds
    }


def ratios(fast: Timed, slow: Timed) -> tuple[float, float, float]:
    """How many times as fast ``fast`` is, round by round: median, least and most."""
    each = [b / a for a, b in zip(fast.seconds, slow.seconds, strict=True)]
    return statistics.median(each), min(each), max(each)
