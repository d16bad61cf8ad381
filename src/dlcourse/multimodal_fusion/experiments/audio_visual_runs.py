"""The experiment of section 121.1a: six contestants, tuned alike, then noise, gaps and delays."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dlcourse.datasets.sounding_pictures import event_factors
from dlcourse.multimodal_fusion.audio_visual import binding
from dlcourse.multimodal_fusion.audio_visual.model import AudioVisualModel
from dlcourse.multimodal_fusion.experiments.audio_visual_data import Clips, make_clips
from dlcourse.multimodal_fusion.experiments.audio_visual_scores import (
    attention_on_own_event,
    linear_on_means,
    mean_precision,
)
from dlcourse.multimodal_fusion.experiments.audio_visual_training import (
    CONTESTANTS,
    FUSIONS,
    Job,
    logits_of,
    seen_by,
    train,
)

RATES = (1e-3, 2e-3, 4e-3)
AUDIO_NOISE = (0.02, 0.15, 0.3, 0.6, 1.2, 2.4)
SHOWN_NOISE = 0.05
LAGS = (0.0, 0.05, 0.1, 0.2, 0.3)  # seconds
DROPOUT = 0.5
ROBUST = ("late", "cross")  # those that are trained once more with modality dropout
EVALUATION = 12.0  # seconds kept for measuring
TRAIN_SEED, VALIDATION_SEED, TEST_SEED, TUNING_SEED = 10, 20, 30, 99

Models = dict[str, list[AudioVisualModel]]


def contest(
    device: torch.device | str,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    rates: Sequence[float] = RATES,
    steps: int = 2500,
    tuning_steps: int = 400,
    limit: float | None = 100.0,
    batch_size: int = 128,
    n_train: int = 131_072,
    n_test: int = 8192,
    dim: int = 64,
) -> dict[str, Any]:
    """Train and measure all; returns what the page's tables and figures need.

    A rate is chosen for each contestant on validation clips, after a short training with a seed
    of its own. Test clips are looked at once, by the models of all seeds.

    ``steps`` are taken by each training, or as many fewer, the same for all, as fit in a ``limit``
    of seconds for everything; the result says how many.
    """
    began = time.perf_counter()
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # TF32 where the device has it
    try:
        data, validation, test = (
            make_clips(n, seed, device)
            for n, seed in ((n_train, TRAIN_SEED), (n_test, VALIDATION_SEED), (n_test, TEST_SEED))
        )
        settings = {"batch_size": batch_size, "dim": dim}
        tuning, cost = tune(data, validation, rates, steps=tuning_steps, **settings)
        if limit is not None:
            left = limit - EVALUATION - (time.perf_counter() - began)
            trainings = len(seeds) * (len(CONTESTANTS) + len(ROBUST))
            steps = max(tuning_steps, min(steps, 50 * int(left / cost / trainings / 50)))
        rate = {name: float(max(tried, key=tried.__getitem__)) for name, tried in tuning.items()}
        models, robust = (
            {
                name: train(
                    [Job(name, seed, rate[name], dropout) for seed in seeds],
                    data, steps=steps, **settings,
                )
                for name in names
            }
            for names, dropout in ((CONTESTANTS, 0.0), (ROBUST, DROPOUT))
        )  # fmt: skip
        result = {
            "settings": {
                **settings, "steps": steps, "tuning_steps": tuning_steps, "n_train": n_train,
                "n_test": n_test, "seeds": len(seeds), "dropout": DROPOUT,
            },
            "tuning": tuning,
            "rate": rate,
            "baselines": baselines(data, test),
            **evaluate(models, robust, test),
        }  # fmt: skip
    finally:
        torch.set_float32_matmul_precision(precision)
    result["seconds"] = time.perf_counter() - began
    return result


def tune(
    data: Clips, validation: Clips, rates: Sequence[float], *, steps: int, **settings: int
) -> tuple[dict[str, dict[str, float]], float]:
    """Validation mAP of each contestant at each rate; and seconds for a step of a fusion."""
    tuning: dict[str, dict[str, float]] = {}
    costs = []
    for name in CONTESTANTS:
        began = time.perf_counter()
        jobs = [Job(name, TUNING_SEED, rate) for rate in rates]
        tried = train(jobs, data, steps=steps, **settings)
        if name in FUSIONS:
            costs.append((time.perf_counter() - began) / (len(jobs) * steps))
        tuning[name] = {
            f"{job.rate:g}": measure(name, model, validation)["mAP"]
            for job, model in zip(jobs, tried, strict=True)
        }
    return tuning, sum(costs) / len(costs)


def evaluate(models: Models, robust: Models, test: Clips) -> dict[str, Any]:
    """All that is measured on test clips, for models without and with modality dropout."""
    n, device = len(test.mel), test.mel.device
    fused = {name: models[name] for name in FUSIONS}
    noisy = {level: make_clips(n, TEST_SEED, device, audio_noise=level) for level in AUDIO_NOISE}
    return {
        "parameters": {n: sum(p.numel() for p in m[0].parameters()) for n, m in models.items()},
        "test": per_seed(models, test),
        "noise": {str(level): per_seed(models, clips) for level, clips in noisy.items()},
        "noise, dropout": {str(level): per_seed(robust, clips) for level, clips in noisy.items()},
        "lag": {
            str(lag): per_seed(fused, make_clips(n, TEST_SEED, device, lag=lag)) for lag in LAGS
        },
        "missing": {name: missing(runs, test) for name, runs in fused.items()},
        "missing, dropout": {name: missing(runs, test) for name, runs in robust.items()},
        "attention": [
            [attention_on_own_event(m, test, layer) for layer in (0, 1)] for m in models["cross"]
        ],
        "shown": shown(robust["cross"][0], models["cross"][0]),
    }


def measure(name: str, model: AudioVisualModel, clips: Clips) -> dict[str, float]:
    """Mean average precision and binding accuracy of a contestant."""
    return score(logits_of(model, *seen_by(name, clips.mel, clips.frames)), clips)


def score(logits: Tensor, clips: Clips) -> dict[str, float]:
    """Both scores of any logits ``(N, 16)``."""
    return {
        "mAP": mean_precision(logits, clips.target),
        "binding": binding.binding_accuracy(logits, clips.factors),
    }


def per_seed(
    models: dict[str, list[AudioVisualModel]], clips: Clips
) -> dict[str, dict[str, list[float]]]:
    """Scores of each contestant, a list over the seeds."""
    found = {name: [measure(name, m, clips) for m in runs] for name, runs in models.items()}
    return {
        name: {key: [r[key] for r in rows] for key in ("mAP", "binding")}
        for name, rows in found.items()
    }


def missing(models: list[AudioVisualModel], clips: Clips) -> dict[str, list[float]]:
    """mAP of models that were trained on both, with both, the audio alone and the video alone."""
    inputs = {
        "both": (clips.mel, clips.frames),
        "audio": (clips.mel, None),
        "video": (None, clips.frames),
    }
    return {
        what: [mean_precision(logits_of(m, *pair), clips.target) for m in models]
        for what, pair in inputs.items()
    }


def baselines(train: Clips, test: Clips) -> dict[str, dict[str, float]]:
    """What needs no network: a constant, a linear model, and three ceilings without binding."""
    subset = Clips(*(x[:32_768] for x in train[:3]), factors=train.factors)
    constant = torch.zeros_like(test.target)
    rows = {"constant": constant, "linear on means": linear_on_means(subset, test)}
    for name, ceiling in (
        ("all sounds known", binding.from_sounds),
        ("all pictures known", binding.from_pictures),
        ("both known, no times", binding.without_times),
    ):
        rows[name] = ceiling(test.factors)
    return {name: score(logits, test) for name, logits in rows.items()}


@torch.no_grad()
def shown(robust: AudioVisualModel, plain: AudioVisualModel) -> dict[str, Any]:
    """One clip of three events for the page: predictions with noise and gaps, attention maps."""
    seed, device = first_with_three_events(), next(robust.parameters()).device
    predictions: dict[str, dict[str, list[float]]] = {}
    for level in AUDIO_NOISE:
        mel, frames = shown_clip(seed, level, device)
        predictions[str(level)] = {
            what: robust(*inputs).sigmoid()[0].tolist()
            for what, inputs in (
                ("nothing", (mel, frames)),
                ("sound", (None, frames)),
                ("picture", (mel, None)),
            )
        }
    maps = plain.attention_maps(*shown_clip(seed, SHOWN_NOISE, device))
    return {
        "seed": seed,
        "predictions": predictions,
        "maps": [[w[0].mean(0).tolist() for w in layer] for layer in maps],
    }


def shown_clip(
    seed: int, audio_noise: float, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Spectrum and pictures of the clip that the page shows; made on the CPU, equal everywhere."""
    clip = make_clips(1, seed, "cpu", audio_noise=audio_noise, video_noise=0.1)
    return clip.mel.to(device), clip.frames.to(device)


def first_with_three_events() -> int:
    """The first seed from 100 whose clip has three events, all different in sound and picture."""
    for seed in itertools.count(100):
        f = event_factors(1, torch.Generator().manual_seed(seed))
        kinds = [len(set(k[0].tolist())) for k in (f.sound, f.picture)]
        if f.present.all() and kinds == [3, 3]:
            return seed
    raise AssertionError("unreachable")
