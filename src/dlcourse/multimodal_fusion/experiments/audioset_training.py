"""Section 121.1b: train small AudioSetModels quickly, many of them, on a GPU or a CPU.

The networks are so small that a GPU waits for the host. So a whole training step (forward, loss,
backward, AdamW) is captured once as a CUDA graph and replayed; only the batch is made anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dlcourse.datasets import SOUND_CLASSES, Split, mix_sounds, sound_bank
from dlcourse.multimodal_fusion.audioset.log_mel import LogMelSpectrogram, log_mel
from dlcourse.multimodal_fusion.audioset.losses import multilabel_loss
from dlcourse.multimodal_fusion.audioset.metric import average_precision
from dlcourse.multimodal_fusion.audioset.model import AudioSetModel, pool_time
from dlcourse.multimodal_fusion.audioset.spectrogram_encoder import SpectrogramEncoder
from dlcourse.multimodal_fusion.audioset.waveform_encoder import WaveformEncoder

KINDS = ("waveform", "spectrogram", "both")
SIZES = (20000, 1000, 2000)  # clips for training, validation, test
STEPS, BATCH, WIDTH = 500, 64, 64
Augment = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


class Clips(NamedTuple):
    """One seed's clips: (waveforms, targets) of each part, made from sounds of that part alone."""

    train: Split
    validation: Split
    test: Split


def make_clips(
    seed: int,
    device: torch.device,
    sizes: tuple[int, int, int] = SIZES,
    class_weights: tuple[float, ...] | None = None,
) -> Clips:
    """Mix clips of one second on the device; ``class_weights`` are those of the training clips."""
    parts = []
    for i, (name, n) in enumerate(zip(("train", "validation", "test"), sizes)):
        generator = torch.Generator(device).manual_seed(3 * seed + i)
        weights = class_weights if name == "train" else None
        parts.append(mix_sounds(sound_bank(name, seed), n, generator, class_weights=weights))
    return Clips(*parts)


def small_model(kind: str, prior: Tensor | None = None, width: int = WIDTH) -> AudioSetModel:
    """An AudioSetModel of at most 0.4 million parameters (width 64), for twelve classes.

    Raises ValueError for a kind other than "waveform", "spectrogram" and "both".
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}: got {kind!r}")
    shape = dict(dim=width, num_layers=2, num_heads=4, position_kernel=16, position_groups=16)
    wave = WaveformEncoder(**shape, channels=width) if kind != "spectrogram" else None
    channels = (width // 4, width // 2, width)
    mel = SpectrogramEncoder(**shape, channels=channels) if kind != "waveform" else None
    return AudioSetModel(
        len(SOUND_CLASSES), wave, mel, log_mel=LogMelSpectrogram(), hidden=width, prior=prior
    )


def train_model(
    model: AudioSetModel,
    clips: Split,
    *,
    rate: float,
    steps: int,
    batch_size: int = BATCH,
    seed: int = 0,
    augment_waveform: Augment | None = None,
    augment_spectrogram: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    positive_weight: Tensor | None = None,
    sample_weights: Tensor | None = None,
) -> None:
    """Train in place with AdamW: warm-up over a tenth of the steps, then a cosine to 0.

    On a GPU in bfloat16 (autocast) and as a CUDA graph. Batches are drawn with replacement, with
    ``sample_weights`` if given.
    """
    device = clips.x.device
    # On a GPU two-dimensional convolutions are nearly twice as fast with the channels last.
    model.to(device, memory_format=torch.channels_last).train()
    on_gpu = device.type == "cuda"
    generator = torch.Generator(device).manual_seed(1000 + seed)
    lr = torch.tensor(0.0, device=device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr if on_gpu else 0.0, weight_decay=0.01,
        fused=on_gpu, capturable=on_gpu,
    )  # fmt: skip
    wants_mel = model.spectrogram_encoder is not None

    def batch() -> list[Tensor]:
        if sample_weights is None:
            chosen = torch.randint(
                len(clips.x), (batch_size,), generator=generator, device=device
            )
        else:
            chosen = torch.multinomial(
                sample_weights, batch_size, replacement=True, generator=generator
            )
        x, y = clips.x[chosen], clips.y[chosen]
        if augment_waveform is not None:
            x, y = augment_waveform(x, y, generator)
        if not wants_mel:
            return [x, y]
        make = model.log_mel  # called as a module, it would look at the values: the host would wait
        mel = log_mel(x, make.window, make.filters, make.hop_length)
        if augment_spectrogram is not None:
            mel = augment_spectrogram(mel, generator)
        return [x, y, mel]

    def step(x: Tensor, y: Tensor, mel: Tensor | None = None) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu, cache_enabled=False):
            logits = model(x, mel)
        multilabel_loss(logits.float(), y, positive_weight).backward()
        optimizer.step()

    def set_rate(k: int) -> None:
        warm = max(1, steps // 10)
        part = (k + 1) / warm if k < warm else 0.5 + 0.5 * math.cos(
            math.pi * (k - warm) / max(1, steps - warm)
        )  # fmt: skip
        if on_gpu:
            lr.fill_(rate * part)
        else:
            optimizer.param_groups[0]["lr"] = rate * part

    if not on_gpu:
        for k in range(steps):
            set_rate(k)
            step(*batch())
        return
    static = batch()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # at rate 0, so that the weights stay
        for _ in range(3):
            step(*static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad()
    with torch.cuda.graph(graph):
        step(*static)
    for k in range(steps):
        set_rate(k)
        for kept, new in zip(static, batch()):
            kept.copy_(new)
        graph.replay()
    torch.cuda.synchronize()


@torch.no_grad()
def untrained_features(clips: Clips, seed: int, width: int = 2 * WIDTH) -> list[Tensor]:
    """What a spectrogram encoder gives that was never trained: (N, width) for each part.

    Its batch normalisations have seen 20 batches of training clips, so that they normalise.
    """
    torch.manual_seed(seed)
    model = small_model("spectrogram", width=width).to(clips.train.x.device)
    encoder = model.spectrogram_encoder.train()
    for x in clips.train.x.split(BATCH)[:20]:
        encoder(model.log_mel(x))
    encoder.eval()
    return [
        torch.cat([pool_time(encoder(model.log_mel(x))) for x in part.x.split(500)])
        for part in clips
    ]


@torch.no_grad()
def class_precisions(model: AudioSetModel, clips: Split, batch_size: int = 500) -> Tensor:
    """AP of each class, float64 (C,); the model in eval mode, in float32."""
    model.eval()
    scores = torch.cat([model(x) for x in clips.x.split(batch_size)])
    return average_precision(scores, clips.y)
