"""When does cross-attention begin to bind? A training followed step by step, on a CPU."""

from __future__ import annotations

import torch

from dlcourse.multimodal_fusion.audio_visual.attention import CrossAttention
from dlcourse.multimodal_fusion.audio_visual.binding import without_times
from dlcourse.multimodal_fusion.audio_visual.model import AudioVisualModel
from dlcourse.multimodal_fusion.experiments.audio_visual_data import (
    TEST_SEED,
    TRAIN_SEED,
    make_clips,
)
from dlcourse.multimodal_fusion.experiments.audio_visual_scores import (
    break_ties,
    mean_precision,
    measure,
)
from dlcourse.multimodal_fusion.experiments.audio_visual_training import (
    Job,
    make_model,
    one_step,
    set_rate,
)


def plateau(
    *,
    seed: int = 0,
    steps: int = 1050,
    every: int = 75,
    rate: float = 2e-3,
    batch_size: int = 64,
    n_train: int = 10_000,
    n_test: int = 1000,
    dim: int = 48,
) -> dict[str, object]:
    """Scores on unseen clips during a training with a constant rate, after a short warm-up.

    One training begins with equal queries and keys, the other with independent ones; all else is
    the same. Returns the steps, mAP and binding accuracy of both, and the ceiling without times.
    """
    data = make_clips(n_train, TRAIN_SEED, "cpu")
    test = make_clips(n_test, TEST_SEED, "cpu")
    result: dict[str, object] = {
        "steps": list(range(every, steps + 1, every)),
        "ceiling": mean_precision(break_ties(without_times(test.factors)), test.target),
    }
    job = Job("cross", seed, rate)
    for start in ("equal", "independent"):
        model = make_model(job, dim)
        if start == "independent":
            draw_keys(model, seed)
        optimizer = torch.optim.AdamW(
            model.parameters(), rate, weight_decay=0.05, betas=(0.9, 0.98)
        )
        torch.manual_seed(seed)
        step = one_step(job, model, optimizer, data, batch_size)
        curve = []
        for k in range(1, steps + 1):
            set_rate(optimizer, rate * min(1.0, k / every))
            step()
            if k % every == 0:
                curve.append(measure("cross", model, test))
        result[start] = {key: [point[key] for point in curve] for key in ("mAP", "binding")}
    return result


def draw_keys(model: AudioVisualModel, seed: int) -> None:
    """Give all keys weights of their own, drawn as torch's linear layers draw theirs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        for module in model.modules():
            if isinstance(module, CrossAttention):
                module.key.reset_parameters()
