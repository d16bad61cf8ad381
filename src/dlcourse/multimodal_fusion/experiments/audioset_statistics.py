"""Section 121.1b: how far richer summaries of a spectrogram go, without convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlcourse.datasets import recorded_sounds
from dlcourse.multimodal_fusion.audioset.log_mel import LogMelSpectrogram
from dlcourse.multimodal_fusion.audioset.losses import multilabel_loss
from dlcourse.multimodal_fusion.audioset.metric import average_precision
from dlcourse.multimodal_fusion.experiments.audioset_baselines import mel_statistics, probe

RICH_SIZES = (3000, 700, 1200)  # clips for training, validation, test
DECAYS = (0.1, 1.0)  # weight decays of the perceptron
PERCEPTRON_STEPS = 600
Part = tuple[Tensor, Tensor]  # features (N, D), targets (N, C)


def rich_statistics(waveform: Tensor, batch_size: int = 500) -> Tensor:
    """Eight numbers a mel band: (N, samples) -> (N, 8 · 64).

    Over time: mean, standard deviation, maximum, the quantiles 0.1, 0.5 and 0.9; and of the change
    from one frame to the next: maximum (onsets) and standard deviation.
    """
    mel = LogMelSpectrogram().to(waveform.device)
    levels = torch.tensor([0.1, 0.5, 0.9], device=waveform.device)
    found = []
    for clips in waveform.split(batch_size):
        s = mel(clips)  # (B, M, frames)
        change = s.diff(dim=2)
        low, middle, high = s.quantile(levels, dim=2)
        parts = [s.mean(2), s.std(2), s.amax(2), low, middle, high, change.amax(2), change.std(2)]
        found.append(torch.cat(parts, 1))
    return torch.cat(found)


def perceptron(parts: Sequence[Part], seed: int) -> dict[str, object]:
    """One hidden layer of 256 with dropout; the weight decay is chosen on validation.

    Args:
        parts: train, validation and test.
        seed: of weights and batches.

    Returns:
        ``ap`` of each class on test, ``map``, and ``decay``, the one chosen.
    """
    (x, y), (_, y_validation), (_, y_test) = parts
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    x, validation, test = ((features - mean) / std for features, _ in parts)
    tried = []
    for decay in DECAYS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = nn.Sequential(
                nn.Dropout(0.3), nn.Linear(x.shape[1], 256), nn.GELU(),
                nn.Dropout(0.5), nn.Linear(256, y.shape[1]),
            )  # fmt: skip
            optimizer = torch.optim.AdamW(net.parameters(), weight_decay=decay)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, PERCEPTRON_STEPS)
            for _ in range(PERCEPTRON_STEPS):
                chosen = torch.randint(len(x), (128,))
                optimizer.zero_grad()
                multilabel_loss(net(x[chosen]), y[chosen]).backward()
                optimizer.step()
                schedule.step()
        net.eval()
        with torch.no_grad():
            reached = average_precision(net(validation), y_validation).nanmean().item()
            tried.append((reached, decay, net(test)))
    _, decay, scores = max(tried, key=lambda one: one[0])
    ap = average_precision(scores, y_test)
    return {"ap": ap.tolist(), "map": ap.nanmean().item(), "decay": decay}


def statistics_contest(
    seeds: Sequence[int] = (0, 1, 2, 3, 4), sizes: tuple[int, int, int] = RICH_SIZES
) -> dict[str, list[dict[str, object]]]:
    """Two numbers a band with logistic regression; eight with it, and with a perceptron.

    The splits of the sounds are those of the networks' contest. On a CPU about 15 s a seed.
    """
    table: dict[str, list[dict[str, object]]] = {}
    for seed in seeds:
        train, validation, test = sizes
        splits = recorded_sounds(seed, n_train=train, n_validation=validation, n_test=test)
        rich = [(rich_statistics(part.x), part.y) for part in splits]
        found = {
            "mel statistics": probe([(mel_statistics(part.x), part.y) for part in splits]),
            "rich statistics": probe(rich),
            "perceptron": perceptron(rich, seed),
        }
        for name, result in found.items():
            table.setdefault(name, []).append(result)
    return table
