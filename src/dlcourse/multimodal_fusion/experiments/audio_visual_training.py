"""Training many small audio-visual models at once: on a GPU each step is one replayed graph.

A small model's step consists of hundreds of kernels that take less time than their launch. A CUDA
graph records them once and starts them together; graphs of several models run side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dlcourse.multimodal_fusion.audio_visual.encoders import FrameTokens, SpectrogramTokens
from dlcourse.multimodal_fusion.audio_visual.fusion import (
    BottleneckFusion,
    CrossAttentionFusion,
    JointFusion,
    LateFusion,
)
from dlcourse.multimodal_fusion.audio_visual.model import AudioVisualModel
from dlcourse.multimodal_fusion.experiments.audio_visual_data import Clips

FUSIONS = {
    "late": LateFusion,
    "bottleneck": BottleneckFusion,
    "cross": CrossAttentionFusion,
    "joint": JointFusion,
}
#: What a contestant sees, and how its streams meet. With one stream nothing meets.
CONTESTANTS = {"audio": "late", "video": "late", **{name: name for name in FUSIONS}}
DEPTH = 3  # layers; in all fusions but the late one the last two let the streams meet


class Job(NamedTuple):
    """One training."""

    name: str  # of CONTESTANTS
    seed: int
    rate: float
    dropout: float = 0.0  # probability that an example loses one modality


def make_model(job: Job, dim: int = 96) -> AudioVisualModel:
    """A fresh contestant; its weights come from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        return AudioVisualModel(
            SpectrogramTokens(dim=dim), FrameTokens(dim=dim), dim, 4, 16,
            fusion=FUSIONS[CONTESTANTS[job.name]](dim, 4, DEPTH), modality_dropout=job.dropout,
        )  # fmt: skip


def seen_by(name: str, mel: Tensor, frames: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The inputs of a contestant: both, or the one modality that it is about."""
    return (None if name == "video" else mel), (None if name == "audio" else frames)


def rate_at(step: int, steps: int, rate: float) -> float:
    """A linear warm-up over a twentieth of the steps, then a cosine to 0."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return rate * (step + 1) / warmup
    return rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(
    jobs: Sequence[Job], data: Clips, *, steps: int, batch_size: int, dim: int = 96
) -> list[AudioVisualModel]:
    """Train contestants side by side with AdamW on binary cross-entropy; in evaluation mode after.

    Batches, and what modality dropout takes, come from torch's default generator, which is seeded
    with the first job's seed.
    """
    device = data.mel.device
    on_gpu = device.type == "cuda"
    torch.manual_seed(jobs[0].seed)
    models, optimizers, runs = [], [], []
    for job in jobs:
        model = make_model(job, dim).to(device)
        optimizer = torch.optim.AdamW(
            model.parameters(), torch.tensor(0.0, device=device) if on_gpu else 0.0,
            weight_decay=0.05, betas=(0.9, 0.98), fused=on_gpu or None, capturable=on_gpu,
        )  # fmt: skip
        step = one_step(job, model, optimizer, data, batch_size)
        models.append(model)
        optimizers.append(optimizer)
        runs.append(graphed(step) if on_gpu else plain(step))
    for k in range(steps):
        for job, optimizer, run in zip(jobs, optimizers, runs, strict=True):
            run(optimizer, rate_at(k, steps, job.rate))
    if on_gpu:
        torch.cuda.synchronize()
    return [model.eval() for model in models]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Put a learning rate, a float or a tensor that a graph reads, into all groups."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def one_step(
    job: Job,
    model: AudioVisualModel,
    optimizer: torch.optim.Optimizer,
    data: Clips,
    batch_size: int,
) -> Callable[[], None]:
    """A function of nothing that takes one optimizer step on a random batch."""

    def step() -> None:
        chosen = torch.randint(len(data.mel), (batch_size,), device=data.mel.device)
        inputs = seen_by(job.name, data.mel[chosen], data.frames[chosen])
        optimizer.zero_grad(set_to_none=False)
        binary_cross_entropy_with_logits(model(*inputs), data.target[chosen]).backward()
        optimizer.step()

    return step


def plain(step: Callable[[], None]) -> Callable[..., None]:
    """A function that sets an optimizer's rate and takes the step."""

    def run(optimizer: torch.optim.Optimizer, rate: float) -> None:
        set_rate(optimizer, rate)
        step()

    return run


def graphed(step: Callable[[], None]) -> Callable[..., None]:
    """The step as a CUDA graph with a stream of its own, after three runs to warm up.

    Returns a function that sets an optimizer's rate and replays the graph. The rate should be 0
    in the warm-up.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()

    def run(optimizer: torch.optim.Optimizer, rate: float) -> None:
        with torch.cuda.stream(stream):
            set_rate(optimizer, rate)
            graph.replay()

    return run


@torch.no_grad()
def logits_of(
    model: AudioVisualModel, mel: Tensor | None, frames: Tensor | None, chunk: int = 4096
) -> Tensor:
    """Logits of all clips, ``(N, 16)``, a chunk at a time; either input may be None."""
    n = len(frames if mel is None else mel)
    parts = [slice(start, start + chunk) for start in range(0, n, chunk)]
    return torch.cat(
        [model(*(None if x is None else x[part] for x in (mel, frames))) for part in parts]
    )
