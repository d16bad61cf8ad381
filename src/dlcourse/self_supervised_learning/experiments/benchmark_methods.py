"""The contestants of the chapter's benchmark: one encoder, trained without labels by each method.

Chapter: ``120_self_supervised_learning/0_overview`` (recorded cells).

Every method gets the same encoder, the same pictures and the same seconds. A method's own papers
choose the rest: its views, its loss, and whether the class token or the mean of the patch tokens
is read afterwards. No setting was tuned for this comparison.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlcourse.self_supervised_learning.augmentations.batch_views import BatchViews
from dlcourse.self_supervised_learning.contrastive.simclr import SimCLR
from dlcourse.self_supervised_learning.dino.dino_loss import DINOLoss
from dlcourse.self_supervised_learning.dino.head import DINOHead
from dlcourse.self_supervised_learning.dino.ibot_loss import iBOTLoss
from dlcourse.self_supervised_learning.dino.masks import blob_masks
from dlcourse.self_supervised_learning.dino.model import DINO
from dlcourse.self_supervised_learning.dino.teacher import momentum_schedule
from dlcourse.self_supervised_learning.masked_autoencoders.model import MaskedAutoencoder
from dlcourse.self_supervised_learning.pretraining import pretrain
from dlcourse.self_supervised_learning.simmim.model import SimMIM
from dlcourse.self_supervised_learning.vision_transformer import Block, VisionTransformer

__all__ = [
    "METHODS",
    "POOLING",
    "Contest",
    "Pretrained",
    "compile_blocks",
    "make_encoder",
    "pretrain_for",
    "steps_in",
    "views",
    "wait",
]

METHODS = ("SimCLR", "DINO + iBOT", "SimMIM", "MAE")
# What is read: the token that the loss has trained.
POOLING = {"SimCLR": "class", "DINO + iBOT": "class", "SimMIM": "mean", "MAE": "mean"}


@dataclass(frozen=True)
class Contest:
    """What all contestants share."""

    device: torch.device
    dtype: torch.dtype | None = torch.bfloat16  # of matrix products under autocast
    compiled: bool = True
    size: int = 32  # side of a picture in pixels
    patch_size: int = 4
    embed_dim: int = 192
    depth: int = 4
    num_heads: int = 3
    batch_size: int = 512  # pictures a step of pre-training; SimCLR and DINO draw several views
    lr: float = 1e-3
    prototypes: int = 1024  # of DINO and iBOT
    seconds: float = 90.0  # of pre-training
    supervised_seconds: float = 130.0  # of the long supervised trainings, all of a seed together

    # Fine-tuning: every combination is tried, for every start.
    label_batch: int = 256
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    label_views: tuple[str, ...] = ("crop + colour", "crop")
    label_steps: int = 300

    pictures: int = 200_000
    labelled: int = 10_000  # of the pictures; as many more labels to choose on
    tested: int = 5_000
    shares: tuple[float, ...] = (0.01, 0.1, 1.0)  # of these labels
    probe_decays: tuple[float, ...] = field(default=tuple(10.0**e for e in range(-4, 1)))

    def labels_of(self, share: float) -> int:
        """How many labels a share of them is; as many more are there to choose on."""
        return max(2, round(share * self.labelled))

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)


class Pretrained(NamedTuple):
    """An encoder after its training, with the number of steps and the seconds that it took."""

    encoder: VisionTransformer
    steps: int
    seconds: float


class _Training(NamedTuple):
    model: nn.Module
    loss: Callable[[Tensor, torch.Generator], Tensor]
    kept: Callable[[], VisionTransformer]  # the encoder that is read afterwards
    after_step: Callable[[int, int], None] | None  # called with steps taken, and all steps


def views(name: str, size: int) -> BatchViews:
    """SimCLR's views (its jitter at strength 0.5, as the paper has it for small pictures), or the
    same crops and flips with their colours."""
    if name == "crop + colour":
        return BatchViews(size, scale=(0.2, 1.0))
    if name == "crop":
        return BatchViews(size, scale=(0.2, 1.0), jitter_probability=0.0, grayscale=0.0)
    raise ValueError(f"unknown views: {name!r}")


def make_encoder(contest: Contest, seed: int) -> VisionTransformer:
    """The one encoder, with the weights of a seed, on the contest's device."""
    return VisionTransformer(
        contest.size,
        contest.patch_size,
        embed_dim=contest.embed_dim,
        depth=contest.depth,
        num_heads=contest.num_heads,
        positions="learned",
        generator=torch.Generator().manual_seed(seed),
    ).to(contest.device)


def pretrain_for(
    method: str, contest: Contest, images: Tensor, seed: int, steps: int
) -> Pretrained:
    """Train the encoder by a method for a number of steps, and time it."""
    training = _TRAININGS[method](contest, images, seed)
    if contest.compiled:
        compile_blocks(training.model)
    wait(contest.device)
    begin = time.perf_counter()
    pretrain(
        training.model,
        training.loss,
        len(images),
        steps=steps,
        batch_size=contest.batch_size,
        lr=contest.lr,
        max_grad_norm=3.0,
        seed=seed,
        after_step=(
            None
            if training.after_step is None
            else lambda taken: training.after_step(taken, steps)
        ),
    )
    wait(contest.device)
    seconds = time.perf_counter() - begin
    # A copy is not compiled: features are computed in batches of other sizes.
    return Pretrained(copy.deepcopy(training.kept()).eval(), steps, seconds)


def steps_in(seconds: float, run: Callable[[int], float], trial: int = 30) -> int:
    """How many steps fit into the seconds, by two short trials: the first one compiles.

    ``run(steps)`` takes this many and returns the seconds that they took.
    """
    run(min(trial, 5))
    return max(1, round(seconds * trial / run(trial)))


def compile_blocks(model: nn.Module) -> None:
    """Compile the blocks of all transformers in it, in place; equal blocks share one compilation."""
    torch._dynamo.config.recompile_limit = 64  # one for each shape; beyond, torch gives up quietly
    for part in model.modules():
        if isinstance(part, Block):
            part.compile(dynamic=False)


def _simclr(contest: Contest, images: Tensor, seed: int) -> _Training:
    """Chen et al. (2020): two views, NT-Xent on a head of two layers."""
    encoder = make_encoder(contest, seed)
    generator = torch.Generator().manual_seed(seed)
    model = SimCLR(encoder, temperature=0.2, generator=generator).to(contest.device)
    view = views("crop + colour", contest.size)

    def loss(index: Tensor, g: torch.Generator) -> Tensor:
        x = images[index]
        first, second = view(torch.cat([x, x]), g).chunk(2)
        with contest.autocast():
            return model(first, second)

    return _Training(model, loss, lambda: model.encoder, None)


def _dino(contest: Contest, images: Tensor, seed: int) -> _Training:
    """Caron et al. (2021) with the patch loss of Zhou et al. (2022) and KoLeo: two global views,
    four local ones of half the side; the teacher is kept."""
    encoder = make_encoder(contest, seed)
    dim, k = contest.embed_dim, contest.prototypes
    generator = torch.Generator().manual_seed(seed)

    def head() -> DINOHead:
        return DINOHead(dim, k, 4 * dim, dim // 2, generator=generator)

    temperatures = {"teacher_temp": 0.04, "warmup_teacher_temp": 0.04}
    model = DINO(
        encoder,
        head(),
        DINOLoss(k, **temperatures),
        patch_head=head(),
        patch_loss=iBOTLoss(k, **temperatures),
        koleo_weight=0.1,
    ).to(contest.device)
    large = BatchViews(contest.size, scale=(0.4, 1.0))
    small = BatchViews(contest.size // 2, scale=(0.1, 0.4))
    side = contest.size // contest.patch_size
    masker = torch.Generator(contest.device).manual_seed(seed)

    def loss(index: Tensor, g: torch.Generator) -> Tensor:
        x = images[index]
        global_views = large(torch.cat([x] * 2), g).chunk(2)
        local_views = small(torch.cat([x] * 4), g).chunk(4)
        mask = blob_masks(2 * len(x), (side, side), masker)
        with contest.autocast():
            return model(global_views, local_views, mask=mask).total

    def after_step(taken: int, steps: int) -> None:
        model.update_teacher(momentum_schedule(taken, steps, 0.99, 0.999))

    return _Training(model, loss, lambda: model.teacher["encoder"], after_step)


def _simmim(contest: Contest, images: Tensor, seed: int) -> _Training:
    """Xie et al. (2022): 60 % of the blocks hidden, twice the patch wide; L1 on their pixels."""
    generator = torch.Generator().manual_seed(seed)
    encoder = make_encoder(contest, seed)
    model = SimMIM(encoder, mask_ratio=0.6, generator=generator).to(contest.device)
    view = views("crop", contest.size)

    def loss(index: Tensor, g: torch.Generator) -> Tensor:
        x = view(images[index], g)
        with contest.autocast():
            return model(x, generator=g)[0]

    return _Training(model, loss, lambda: model.encoder, None)


def _mae(contest: Contest, images: Tensor, seed: int) -> _Training:
    """He et al. (2022): three quarters hidden; a decoder of two blocks and half the width paints
    the normalised patches."""
    generator = torch.Generator().manual_seed(seed)
    width = max(16, contest.embed_dim // 2)
    model = MaskedAutoencoder(
        make_encoder(contest, seed),
        decoder_dim=width,
        decoder_depth=2,
        decoder_heads=max(1, width // 32),
        mask_ratio=0.75,
        generator=generator,
    ).to(contest.device)
    view = views("crop", contest.size)

    def loss(index: Tensor, g: torch.Generator) -> Tensor:
        x = view(images[index], g)
        with contest.autocast():
            return model.training_loss(x, generator=g)

    return _Training(model, loss, lambda: model.encoder, None)


_TRAININGS = {"SimCLR": _simclr, "DINO + iBOT": _dino, "SimMIM": _simmim, "MAE": _mae}


def wait(device: torch.device) -> None:
    """Until the device has done what it was given: before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
