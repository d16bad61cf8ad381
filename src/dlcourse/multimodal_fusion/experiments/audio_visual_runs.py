"""The experiment of section 121.1a: contestants, tuned alike, then noise, gaps and delays."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dlcourse.datasets.sounding_pictures import event_factors
from dlcourse.multimodal_fusion.audio_visual import binding
from dlcourse.multimodal_fusion.audio_visual.model import AudioVisualModel
from dlcourse.multimodal_fusion.experiments.audio_visual_data import (
    TEST_SEED,
    TRAIN_SEED,
    VALIDATION_SEED,
    Clips,
    make_clips,
)
from dlcourse.multimodal_fusion.experiments.audio_visual_scores import (
    attention_on_own_event,
    break_ties,
    linear_on_means,
    mean_precision,
    measure,
    score,
)
from dlcourse.multimodal_fusion.experiments.audio_visual_stacks import Stack
from dlcourse.multimodal_fusion.experiments.audio_visual_training import (
    CONTESTANTS,
    FUSIONS,
    logits_of,
)

RATES = (1e-3, 2e-3, 4e-3)
AUDIO_NOISE = (0.02, 0.15, 0.3, 0.6, 1.2, 2.4)
SHOWN_NOISE = 0.05
CEILINGS = {
    "all sounds known": binding.from_sounds,
    "all pictures known": binding.from_pictures,
    "both known, no times": binding.without_times,
}
LAGS = (0.0, 0.05, 0.1, 0.2, 0.3)  # seconds
STEPS = 3000
#: Fewer than these tell nothing about binding: with the width, the batch and the middle rate of
#: the contest the training of ``audio_visual_plateau`` has bound after 600 to 750 steps.
LEAST_STEPS = 1500
DROPOUT = 0.5
ROBUST = ("late", "cross")  # those that are trained once more with modality dropout
EVALUATION = 18.0  # seconds kept for measuring

Models = dict[str, list[AudioVisualModel]]


def contest(
    device: torch.device | str,
    names: Sequence[str] = tuple(CONTESTANTS),
    *,
    dropout: float = 0.0,
    seeds: Sequence[int] = (0, 1, 2),
    rates: Sequence[float] = RATES,
    steps: int = STEPS,
    least: int = LEAST_STEPS,
    limit: float | None = 135.0,
    batch_size: int = 64,
    n_train: int = 131_072,
    n_test: int = 8192,
    dim: int = 48,
) -> dict[str, Any]:
    """Train and measure all; returns what the page's tables and figures need.

    Each contestant is trained at each rate with each seed, over the whole length. Of its rates the
    one with the best mean mAP on validation clips is taken; the models of the others are never
    shown a test clip.

    ``steps`` are taken by each training, or as many fewer, the same for all, as fit in a ``limit``
    of seconds for everything; the result says how many.

    Raises RuntimeError, before any training, where fewer than ``least`` would fit.
    """
    began = time.perf_counter()
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # TF32 where the device has it
    try:
        data, validation, test = (
            make_clips(n, seed, device)
            for n, seed in ((n_train, TRAIN_SEED), (n_test, VALIDATION_SEED), (n_test, TEST_SEED))
        )
        settings = {"batch_size": batch_size, "dim": dim, "dropout": dropout}
        stacks = {name: Stack(name, rates, seeds, data, **settings) for name in names}
        cost = {name: stack.seconds() for name, stack in stacks.items()}
        if limit is not None:
            left = limit - EVALUATION - (time.perf_counter() - began)
            steps = steps_within(left, cost, steps, least)
        tuning: dict[str, dict[float, dict[str, list[float]]]] = {}
        chosen: dict[str, float] = {}
        models: Models = {}
        how = {name: stack.captured.how for name, stack in stacks.items()}
        for name in names:
            tried = stacks.pop(name).train(steps)
            tuning[name] = {rate: row(name, runs, validation) for rate, runs in tried.items()}
            chosen[name] = best_rate(tuning[name])
            models[name] = tried[chosen[name]]
        result = {
            "settings": {
                **settings, "steps": steps, "n_train": n_train, "n_test": n_test,
                "seeds": len(seeds),
            },
            "how": how,
            "step seconds": cost,
            "tuning": {
                name: {f"{rate:g}": scores for rate, scores in rows.items()}
                for name, rows in tuning.items()
            },
            "rate": chosen,
            "baselines": baselines(data, test),
            **evaluate(models, test),
        }  # fmt: skip
    finally:
        torch.set_float32_matmul_precision(precision)
    result["seconds"] = time.perf_counter() - began
    return result


def steps_within(left: float, cost: dict[str, float], steps: int, least: int) -> int:
    """How many steps of all contestants, of ``cost`` seconds each, fit in the seconds ``left``.

    At most ``steps``, else a multiple of 50. Raises RuntimeError for fewer than ``least``.
    """
    fitting = min(steps, 50 * int(left / sum(cost.values()) / 50))
    if fitting < least:
        each = ", ".join(f"{name} {1000 * value:.1f}" for name, value in cost.items())
        raise RuntimeError(
            f"in {left:.0f} s fit {fitting} steps, and binding needs {least} or more: take fewer "
            f"contestants, rates or seeds, or another device (ms a step of all models: {each})"
        )
    return fitting


def best_rate(tried: dict[float, dict[str, list[float]]]) -> float:
    """The rate with the best mAP on validation, mean over the seeds."""
    return max(tried, key=lambda rate: statistics.mean(tried[rate]["mAP"]))


def evaluate(models: Models, test: Clips) -> dict[str, Any]:
    """All that is measured on test clips."""
    n, device = len(test.mel), test.mel.device
    fused = {name: runs for name, runs in models.items() if name in FUSIONS}
    noisy = {level: make_clips(n, TEST_SEED, device, audio_noise=level) for level in AUDIO_NOISE}
    return {
        "parameters": {n: sum(p.numel() for p in m[0].parameters()) for n, m in models.items()},
        "test": per_seed(models, test),
        "noise": {str(level): per_seed(models, clips) for level, clips in noisy.items()},
        "lag": {
            str(lag): per_seed(fused, make_clips(n, TEST_SEED, device, lag=lag)) for lag in LAGS
        },
        "missing": {name: missing(runs, test) for name, runs in fused.items()},
        "attention": [
            [attention_on_own_event(m, test, layer) for layer in (0, 1)] for m in models["cross"]
        ],
        "shown": shown(models["cross"][0]),
    }


def row(name: str, models: Sequence[AudioVisualModel], clips: Clips) -> dict[str, list[float]]:
    """Scores of a contestant's models, a list over the seeds."""
    found = [measure(name, model, clips) for model in models]
    return {key: [scores[key] for scores in found] for key in ("mAP", "binding")}


def per_seed(models: Models, clips: Clips) -> dict[str, dict[str, list[float]]]:
    """Scores of each contestant, a list over the seeds."""
    return {name: row(name, runs, clips) for name, runs in models.items()}


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
    """What needs no network: a constant, a linear model, and three ceilings without binding.

    The ceilings have many equal scores. Within each group of them the order is random.
    """
    subset = Clips(*(x[:32_768] for x in train[:3]), factors=train.factors)
    rows = {
        "constant": score(torch.zeros_like(test.target), test),
        "linear on means": score(linear_on_means(subset, test), test),
    }
    for name, ceiling in CEILINGS.items():
        known = ceiling(test.factors)
        rows[name] = {
            "mAP": mean_precision(break_ties(known), test.target),
            "binding": binding.binding_accuracy(known, test.factors),
        }
    return rows


@torch.no_grad()
def shown(model: AudioVisualModel) -> dict[str, Any]:
    """One clip of three events for the page: predictions with noise and gaps, attention maps."""
    seed, device = first_with_three_events(), next(model.parameters()).device
    predictions: dict[str, dict[str, list[float]]] = {}
    for level in AUDIO_NOISE:
        mel, frames = shown_clip(seed, level, device)
        predictions[str(level)] = {
            what: model(*inputs).sigmoid()[0].tolist()
            for what, inputs in (
                ("nothing", (mel, frames)),
                ("sound", (None, frames)),
                ("picture", (mel, None)),
            )
        }
    maps = model.attention_maps(*shown_clip(seed, SHOWN_NOISE, device))
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
