"""Training many small audio-visual models: on a GPU each step is one replayed graph.

A small model's step consists of hundreds of kernels that take less time than their launch. A CUDA
graph records them once and starts them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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
DEPTH = 3  # layers; in all fusions but the late one the last two let the streams meet
#: What a contestant sees, and how its streams meet. With one stream nothing meets.
CONTESTANTS = {"audio": "late", "video": "late", **{name: name for name in FUSIONS}}


def make_model(name: str, seed: int, dim: int = 96, dropout: float = 0.0) -> AudioVisualModel:
    """A fresh contestant; its weights come from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AudioVisualModel(
            SpectrogramTokens(dim=dim), FrameTokens(dim=dim), dim, 4, 16,
            fusion=FUSIONS[CONTESTANTS[name]](dim, 4, DEPTH), modality_dropout=dropout,
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
    name: str,
    data: Clips,
    *,
    seed: int,
    rate: float,
    steps: int,
    batch_size: int,
    dim: int = 96,
    dropout: float = 0.0,
) -> AudioVisualModel:
    """Train a contestant with AdamW on binary cross-entropy; returns it in evaluation mode."""
    device = data.mel.device
    model = make_model(name, seed, dim, dropout).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    torch.manual_seed(seed)  # modality dropout draws from the default generator
    fast = device.type == "cuda"
    optimizer = torch.optim.AdamW(
        model.parameters(), torch.tensor(0.0, device=device) if fast else 0.0,
        weight_decay=0.05, betas=(0.9, 0.98), fused=fast or None, capturable=fast,
    )  # fmt: skip
    indices = torch.zeros(batch_size, dtype=torch.int64, device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=not fast)
        mel, frames, target = data.mel[indices], data.frames[indices], data.target[indices]
        binary_cross_entropy_with_logits(model(*seen_by(name, mel, frames)), target).backward()
        optimizer.step()

    run = graphed(step) if fast else step
    for k in range(steps):
        lr = rate_at(k, steps, rate)
        for group in optimizer.param_groups:
            group["lr"].fill_(lr) if fast else group.update(lr=lr)
        torch.randint(len(data.mel), (batch_size,), generator=generator, out=indices)
        run()
    return model.eval()


def graphed(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a CUDA graph. It is run three times first (the rate should be 0 then)."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


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
