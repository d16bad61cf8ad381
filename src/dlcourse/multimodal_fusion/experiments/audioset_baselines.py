"""Section 121.1b: what needs no network: logistic regression on summaries of a clip."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dlcourse.datasets import recorded_sounds
from dlcourse.multimodal_fusion.audioset.frozen_speech import speech_embedding
from dlcourse.multimodal_fusion.audioset.log_mel import LogMelSpectrogram
from dlcourse.multimodal_fusion.audioset.losses import multilabel_loss
from dlcourse.multimodal_fusion.audioset.metric import average_precision, mean_average_precision

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # of the L2 penalty
FROZEN_SIZES = (800, 300, 500)  # clips for training, validation, test of the frozen encoder


def mel_statistics(waveform: Tensor, batch_size: int = 500) -> Tensor:
    """Mean and standard deviation over time of each mel band: (N, samples) -> (N, 128)."""
    mel = LogMelSpectrogram().to(waveform.device)
    found = []
    for clips in waveform.split(batch_size):
        spectrogram = mel(clips)
        found.append(torch.cat([spectrogram.mean(2), spectrogram.std(2)], 1))
    return torch.cat(found)


def embedding_statistics(waveform: Tensor) -> Tensor:
    """Mean and maximum over time of the frozen speech embedding: (N, samples) -> (N, 192)."""
    windows = speech_embedding(waveform)
    return torch.cat([windows.mean(1), windows.amax(1)], 1)


def fit_logistic_regression(x: Tensor, y: Tensor, strength: float, steps: int = 100) -> Tensor:
    """Weights and biases (D + 1, C) that minimise mean BCE + strength · |W|², by L-BFGS."""
    weight = torch.zeros(x.shape[1], y.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(y.shape[1], device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = multilabel_loss(x @ weight + bias, y) + strength * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return torch.cat([weight, bias[None]]).detach()


def probe(parts: Sequence[tuple[Tensor, Tensor]]) -> dict[str, object]:
    """Fit on train, choose the penalty on validation, look at test once.

    Args:
        parts: (features, targets) of train, validation and test.

    Returns:
        ``ap``: AP of each class on test; ``map``: their mean; ``strength``: the penalty chosen;
        ``validation``: mAP there, one a penalty.
    """
    (x, y), validation, test = parts
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)

    def scores(features: Tensor, weights: Tensor) -> Tensor:
        return (features - mean) / std @ weights[:-1] + weights[-1]

    fitted = [fit_logistic_regression((x - mean) / std, y, s) for s in STRENGTHS]
    reached = [mean_average_precision(scores(validation[0], w), validation[1]) for w in fitted]
    best = max(range(len(STRENGTHS)), key=reached.__getitem__)
    ap = average_precision(scores(test[0], fitted[best]), test[1])
    return {
        "ap": ap.tolist(),
        "map": ap.nanmean().item(),
        "strength": STRENGTHS[best],
        "validation": reached,
    }


def frozen_probes(
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    n_train: int = FROZEN_SIZES[0],
    n_validation: int = FROZEN_SIZES[1],
    n_test: int = FROZEN_SIZES[2],
) -> dict[str, list[dict[str, object]]]:
    """Mel statistics, the frozen speech embedding, and both, with logistic regression; each seed
    has a split of the sounds of its own. About 20 ms a clip on one CPU core."""
    table: dict[str, list[dict[str, object]]] = {}
    for seed in seeds:
        splits = recorded_sounds(
            seed, n_train=n_train, n_validation=n_validation, n_test=n_test
        )
        both = [
            (mel_statistics(part.x), embedding_statistics(part.x), part.y) for part in splits
        ]
        found = {
            "mel statistics": probe([(m, y) for m, _, y in both]),
            "speech embedding": probe([(e, y) for _, e, y in both]),
            "both": probe([(torch.cat([m, e], 1), y) for m, e, y in both]),
        }
        share = splits.test.y.mean(0)
        found["chance"] = {"ap": share.tolist(), "map": share.mean().item()}
        for name, result in found.items():
            table.setdefault(name, []).append(result)
    return table
