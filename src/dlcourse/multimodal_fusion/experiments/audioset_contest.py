"""Section 121.1b: the contests: what the model reads, augmentations, rare classes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dlcourse.multimodal_fusion.audioset.augmentation import mixup, spec_augment
from dlcourse.multimodal_fusion.audioset.losses import balanced_weights, positive_weights
from dlcourse.multimodal_fusion.experiments.audioset_baselines import mel_statistics, probe
from dlcourse.multimodal_fusion.experiments.audioset_training import (
    KINDS,
    SIZES,
    STEPS,
    WIDTH,
    Clips,
    class_precisions,
    make_clips,
    small_model,
    train_model,
    untrained_features,
)

RATES = (5e-4, 2e-3)
SEEDS = (0, 1, 2, 3, 4)
# Training clips of the contest over rare classes: class k is drawn as often as 1 / (k + 1).
LONG_TAIL = tuple(1 / (k + 1) for k in range(12))
Run = Callable[[Clips, float, int], object]  # (clips, rate, seed) -> a trained model


def tuned(
    runs: Mapping[str, Run], clips: Clips, seed: int, rates: Sequence[float]
) -> dict[str, dict[str, object]]:
    """Each contestant at each rate; the rate is chosen on validation, test looked at once."""
    table = {}
    for name, run in runs.items():
        models = [run(clips, rate, seed) for rate in rates]
        reached = [class_precisions(m, clips.validation).nanmean().item() for m in models]
        best = max(range(len(rates)), key=reached.__getitem__)
        ap = class_precisions(models[best], clips.test)
        table[name] = {
            "ap": ap.tolist(),
            "map": ap.nanmean().item(),
            "rate": rates[best],
            "validation": reached,
        }
    return table


def network(
    kind: str,
    steps: int,
    width: int,
    *,
    alpha: float | None = None,
    masks: bool = False,
    weighted: bool = False,
    balanced: bool = False,
) -> Run:
    """A run that trains one small model, with the asked additions."""

    def run(clips: Clips, rate: float, seed: int) -> object:
        torch.manual_seed(seed)
        y = clips.train.y
        model = small_model(kind, y.mean(0).clamp(1e-3, 1 - 1e-3).cpu(), width)
        train_model(
            model, clips.train, rate=rate, steps=steps, seed=seed,
            augment_waveform=functools.partial(_mixup, alpha) if alpha else None,
            augment_spectrogram=spec_augment if masks else None,
            positive_weight=positive_weights(y) if weighted else None,
            sample_weights=balanced_weights(y) if balanced else None,
        )  # fmt: skip
        return model

    return run


def _mixup(alpha: float, x: Tensor, y: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    return mixup(x, y, alpha, g)


def contest(
    runs: Mapping[str, Run],
    device: torch.device,
    *,
    seeds: Sequence[int] = SEEDS,
    rates: Sequence[float] = RATES,
    sizes: tuple[int, int, int] = SIZES,
    class_weights: tuple[float, ...] | None = None,
    linear: bool = False,
) -> dict[str, list[dict[str, object]]]:
    """All contestants on the clips of each seed: name -> one result a seed.

    With ``linear`` also logistic regression on mel statistics of the same clips, and on what an
    untrained spectrogram encoder gives; and chance.
    """
    table: dict[str, list[dict[str, object]]] = {}
    for seed in seeds:
        begun = time.perf_counter()
        clips = make_clips(seed, device, sizes, class_weights)
        found = tuned(runs, clips, seed, rates)
        if linear:
            found["mel statistics"] = probe([(mel_statistics(p.x), p.y) for p in clips])
            features = untrained_features(clips, seed)
            found["untrained"] = probe([(x, p.y) for x, p in zip(features, clips)])
            share = clips.test.y.mean(0)
            found["chance"] = {"ap": share.tolist(), "map": share.mean().item()}
        for name, result in found.items():
            table.setdefault(name, []).append(result)
        print(
            f"seed {seed}, {time.perf_counter() - begun:4.0f} s:",
            ", ".join(f"{name} {result['map']:.3f}" for name, result in found.items()),
        )
    return table


def inputs_contest(
    device: torch.device, steps: int = STEPS, width: int = WIDTH, **settings: object
) -> dict[str, list[dict[str, object]]]:
    """Waveform, spectrogram and both, against logistic regression on mel statistics."""
    runs = {kind: network(kind, steps, width) for kind in KINDS}
    return contest(runs, device, linear=True, **settings)


def augmentation_contest(
    device: torch.device, steps: int = STEPS, width: int = WIDTH, **settings: object
) -> dict[str, list[dict[str, object]]]:
    """The spectrogram model with SpecAugment, mixup, and both; with neither it is the one of
    ``inputs_contest``, which has the same clips, rates and steps."""
    make = functools.partial(network, "spectrogram", steps, width)
    runs = {
        "SpecAugment": make(masks=True),
        "mixup": make(alpha=1.0),
        "both": make(alpha=1.0, masks=True),
    }
    return contest(runs, device, **settings)


def imbalance_contest(
    device: torch.device, steps: int = STEPS, width: int = WIDTH, **settings: object
) -> dict[str, list[dict[str, object]]]:
    """The spectrogram model on training clips with rare classes: plain, weighted, resampled."""
    make = functools.partial(network, "spectrogram", steps, width)
    runs = {
        "plain": make(),
        "weighted loss": make(weighted=True),
        "balanced sampling": make(balanced=True),
    }
    return contest(runs, device, class_weights=LONG_TAIL, **settings)
