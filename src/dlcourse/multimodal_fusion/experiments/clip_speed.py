"""Training CLIP on a GPU: pictures a second against open_clip, memory of the loss, two GPUs.

Chapter: ``121_multimodal_fusion/2a_clip`` (its recorded cells ``speed`` and ``two-gpus``).
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dlcourse.measure import interleaved
from dlcourse.multimodal_fusion.clip.chunked import clip_loss_chunked
from dlcourse.multimodal_fusion.clip.gathered import clip_loss_gathered
from dlcourse.multimodal_fusion.clip.loss import clip_loss
from dlcourse.multimodal_fusion.clip.model import CLIP
from dlcourse.multimodal_fusion.clip.peers import copy_weights, open_clip_loss, open_clip_model
from dlcourse.multimodal_fusion.clip.towers import TextTower, VisionTower

__all__ = ["Shape", "measure_loss", "measure_ranks", "measure_training", "measure_two_gpus"]


@dataclass(frozen=True)
class Shape:
    """A CLIP. The defaults are open_clip's ``ViT-S-32-alt``."""

    image: int = 224
    patch: int = 32
    width: int = 384
    depth: int = 12
    heads: int = 6
    text_width: int = 256
    text_depth: int = 10
    text_heads: int = 4
    vocabulary: int = 49408
    context: int = 77
    embed: int = 256

    def ours(self) -> CLIP:
        vision = VisionTower(self.image, self.patch, self.width, self.depth, self.heads)
        text = TextTower(
            self.vocabulary,
            self.context,
            self.text_width,
            self.text_depth,
            self.text_heads,
            end=self.vocabulary - 1,
        )
        return CLIP(vision, text, self.embed)

    def open_clip(self) -> nn.Module:
        vision = {
            "layers": self.depth,
            "width": self.width,
            "head_width": self.width // self.heads,
            "patch_size": self.patch,
            "image_size": self.image,
        }
        text = {
            "context_length": self.context,
            "vocab_size": self.vocabulary,
            "width": self.text_width,
            "heads": self.text_heads,
            "layers": self.text_depth,
        }
        return open_clip_model(self.embed, vision, text)

    def batch(self, n: int, device: torch.device, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Random pictures, and random captions of 8 to 32 tokens (as COCO's are), padded."""
        g = torch.Generator(device).manual_seed(seed)
        images = torch.randn(n, 3, self.image, self.image, generator=g, device=device)
        tokens = torch.randint(
            1, self.vocabulary - 1, (n, self.context), generator=g, device=device
        )
        most = min(32, self.context)
        length = torch.randint(min(8, most), most + 1, (n,), generator=g, device=device)
        length[0] = most  # the longest, so that each batch is cut alike
        place = torch.arange(self.context, device=device)
        tokens[place == length[:, None] - 1] = self.vocabulary - 1
        return images, tokens.masked_fill(place >= length[:, None], 0)


def _compile_blocks(*blocks: nn.Module) -> None:
    """Compile each block by itself: all of a tower share one piece of code."""
    for block in blocks:
        block.compile(dynamic=False)


def _trainer(
    forward: Callable[[Tensor, Tensor], Tensor], model: nn.Module, batch: tuple[Tensor, Tensor]
) -> Callable[[], Tensor]:
    device = batch[0].device
    cuda = device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=cuda or None)

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            loss = forward(*batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def measure_training(
    shape: Shape, batch: int, device: torch.device, *, repeats: int = 8, chunk: int = 1024
) -> dict[str, Any]:
    """Steps of the same model from the same weights: open_clip's and ours, in turn.

    "seconds": of each step, for open_clip eager and with its blocks compiled, ours compiled with
    the loss in chunks, on all tokens of the context and on batches cut after their longest
    caption. "first loss": of each form before any step; they must agree.
    """
    torch.manual_seed(0)
    base = shape.open_clip().to(device)
    data = shape.batch(batch, device)
    longest = int((data[1] > 0).sum(1).max())
    state = base.state_dict()
    criterion = open_clip_loss()

    def theirs(compiled: bool) -> Callable[[], Tensor]:
        model = shape.open_clip().to(device)
        model.load_state_dict(state)
        if compiled:
            _compile_blocks(*model.visual.transformer.resblocks, *model.transformer.resblocks)
        return _trainer(lambda images, texts: criterion(*model(images, texts)[:3]), model, data)

    def ours(length: int, compiled: bool = True) -> Callable[[], Tensor]:
        model = copy_weights(base, shape.ours().to(device))
        if compiled:
            _compile_blocks(*model.vision_model.blocks, *model.text_model.blocks)
        return _trainer(
            lambda images, texts: clip_loss_chunked(*model(images, texts[:, :length]), chunk),
            model,
            data,
        )

    cuda = device.type == "cuda"  # a CPU takes minutes to compile what it runs for seconds
    forms = {
        "open_clip": theirs(False),
        "open_clip, compiled": theirs(cuda),
        "ours": ours(shape.context, False),
        "ours, compiled": ours(shape.context, cuda),
        "ours, compiled, captions cut": ours(longest, cuda),
    }
    first = {name: float(step()) for name, step in forms.items()}
    seconds = interleaved(forms, device, repeats=repeats, warmup=2)
    return {"seconds": seconds, "first loss": first, "batch": batch, "longest": longest}


def measure_loss(
    batches: Sequence[int], device: torch.device, *, dim: int = 512, chunk: int = 2048
) -> dict[str, list[dict[str, float | None]]]:
    """Forward and backward pass of the loss alone, for each number of pairs: {"bytes", "seconds"}.

    Bytes are the peak above the features and their gradients (None on a CPU); both are None where
    the device's memory did not suffice.
    """
    forms = {
        "open_clip": open_clip_loss(),
        "plain": clip_loss,
        "chunks": lambda x, y, s: clip_loss_chunked(x, y, s, chunk),
    }
    found: dict[str, list[dict[str, float | None]]] = {name: [] for name in forms}
    cuda = device.type == "cuda"
    for n in batches:
        g = torch.Generator(device).manual_seed(0)
        x, y = (
            nn.functional.normalize(torch.randn(n, dim, generator=g, device=device))
            .requires_grad_()
            for _ in range(2)
        )
        scale = torch.tensor(20.0, device=device, requires_grad=True)
        for name, form in forms.items():

            def once(form=form) -> None:
                for z in (x, y, scale):
                    z.grad = None
                form(x, y, scale).backward()

            try:
                once()
                once()
                peak = None
                if cuda:
                    torch.cuda.synchronize()
                    torch.cuda.reset_peak_memory_stats(device)
                    before = torch.cuda.memory_allocated(device)
                    once()
                    peak = torch.cuda.max_memory_allocated(device) - before
                times = interleaved({name: once}, device, repeats=3, warmup=0)[name]
                found[name].append({"bytes": peak, "seconds": sorted(times)[1]})
            except torch.OutOfMemoryError:
                found[name].append({"bytes": None, "seconds": None})
            gc.collect()
            if cuda:
                torch.cuda.empty_cache()
    return found


def measure_ranks(
    shape: Shape, batch: int, device: torch.device, *, repeats: int = 8
) -> dict[str, Any]:
    """On each rank of an open process group, ``batch`` pairs a rank.

    "difference": the largest gap between DDP's averaged gradients under the gathered loss and
    those of the joined batch in one process, over the largest gradient; "local": the same for a
    loss that does not gather. Both in float32. "loss": gathered and joined. "seconds" of a step
    in bfloat16: "alone" (no messages), "gathered" (DDP and gathered features), "not gathered".
    """
    from torch.nn.parallel import DistributedDataParallel

    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = shape.ours().to(device)
    state = model.state_dict()
    small = min(batch, 64)
    parts = [shape.batch(small, device, r) for r in range(ranks)]
    images, tokens = (torch.cat(z) for z in zip(*parts))
    loss = clip_loss(*model(images, tokens))
    loss.backward()
    expected = [p.grad.clone() for p in model.parameters()]
    found: dict[str, Any] = {"loss": [float(loss.detach())]}
    largest = max(float(g.abs().max()) for g in expected)
    ids = [device.index] if device.type == "cuda" else None
    for key, form in (("difference", clip_loss_gathered), ("local", clip_loss)):
        copy = shape.ours().to(device)
        copy.load_state_dict(state)
        parallel = DistributedDataParallel(copy, device_ids=ids)
        own = slice(rank * small, (rank + 1) * small)
        part = form(*parallel(images[own], tokens[own]))
        part.backward()
        gaps = (g - p.grad for g, p in zip(expected, copy.parameters()))
        found[key] = max(float(gap.abs().max()) for gap in gaps) / largest
        if key == "difference":
            mean = part.detach().clone()
            dist.all_reduce(mean)
            found["loss"].append(float(mean) / ranks)
    del model, copy, parallel, expected, images, tokens
    data = shape.batch(batch, device, 100 + rank)

    def trainer(form: Callable, parallel: bool) -> Callable[[], Tensor]:
        new = shape.ours().to(device)
        new.load_state_dict(state)
        run = DistributedDataParallel(new, device_ids=ids) if parallel else new
        return _trainer(lambda a, b: form(*run(a, b)), new, data)

    forms = {
        "alone": trainer(clip_loss, False),
        "gathered": trainer(clip_loss_gathered, True),
        "not gathered": trainer(clip_loss, True),
    }
    found["seconds"] = interleaved(forms, device, repeats=repeats, warmup=3)
    return found


def measure_two_gpus(shape: Shape, batch: int) -> dict[str, Any]:
    """``measure_ranks`` in two processes, each with a GPU of its own; what the first found.

    Raises RuntimeError where this machine has fewer GPUs.
    """
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if here < 2:
        raise RuntimeError(f"this cell needs a machine with 2 GPUs; here are {here}")
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_on_a_gpu, (folder, shape, batch), nprocs=2)
        return torch.load(Path(folder, "found"), weights_only=True)


def _on_a_gpu(rank: int, folder: str, shape: Shape, batch: int) -> None:
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    store = Path(folder, "store").as_uri()
    limit = timedelta(seconds=100)  # for a message: a rank that waits longer has lost the other
    dist.init_process_group("nccl", init_method=store, rank=rank, world_size=2, timeout=limit)
    try:
        found = measure_ranks(shape, batch, device)
    finally:
        dist.destroy_process_group()
    if rank == 0:
        torch.save(found, Path(folder, "found"))
