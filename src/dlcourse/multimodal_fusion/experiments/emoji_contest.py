"""Who names unseen emoji best: the recorded cells of ``121_multimodal_fusion/2b_blip2``."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import nn

from dlcourse.multimodal_fusion.experiments.emoji_names import (
    BlindPrompter,
    Emoji,
    LinearPrompter,
    QFormerPrompter,
    Trained,
    itc_recall,
    likelihood_recall,
    name_scores,
    new_qformer,
    ridge_recall,
    stage1,
    stage2,
    write_names,
)

RATES = (1e-4, 3e-4, 1e-3)


def contest(
    data: Emoji,
    *,
    num_queries: int = 8,
    seeds: Sequence[int] = (0, 1, 2),
    steps1: int = 200,
    steps: int = 300,
    tuning_steps: int = 120,
    batch: int = 256,
    rates: Sequence[float] = RATES,
    sizes: dict | None = None,
    shown: int = 24,
) -> dict:
    """All contestants on the test concepts, which are looked at here and nowhere else.

    For each contestant the rate of stage 2 is chosen among ``rates`` by the validation loss of seed
    0 after ``tuning_steps``. Stage 1 has the middle rate.

    Returns what a recorded cell keeps: plain lists and numbers.
    """
    width = data.lm.get_input_embeddings().embedding_dim
    test, sizes = data.parts["test"], sizes or {}
    seconds, before = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal before
        now = time.perf_counter()
        seconds[name], before = now - before, now

    taught, curves1 = {}, []
    for seed in seeds:
        torch.manual_seed(seed)
        taught[seed] = new_qformer(data, num_queries, seed, **sizes)
        curves1.append(
            stage1(data, taught[seed], steps=steps1, batch=batch, rate=rates[1], seed=seed)
        )
    itc = [[itc_recall(data, taught[s], style, test) for style in range(2)] for s in seeds]
    lap("stage 1")

    def with_stage1(seed: int) -> nn.Module:
        fresh = new_qformer(data, num_queries, seed, **sizes)
        fresh.load_state_dict(taught[seed].state_dict())
        return QFormerPrompter(fresh, width).to(data.device)

    contestants = {
        "no picture": lambda seed: BlindPrompter(num_queries, width).to(data.device),
        "linear": lambda seed: LinearPrompter(data.maps.shape[-1], width).to(data.device),
        "Q-Former, stage 2 alone": lambda seed: QFormerPrompter(
            new_qformer(data, num_queries, seed, **sizes), width
        ).to(data.device),
        "Q-Former, both stages": with_stage1,
    }
    rows = {}
    for name, make in contestants.items():
        rate, tuned = _best_rate(data, make, rates, tuning_steps, batch, seeds[0])
        runs, learned = _train(data, make, rate, steps, batch, seeds)
        rows[name] = {
            "rate": rate,
            "tuning": tuned,
            "learned": learned,
            "validation": [run.validation for run in runs],
            "step": [run.step for run in runs],
            "curves": [run.curve for run in runs],
            "styles": [[], []],
            "written": [],
        }
        for run in runs:
            for style in range(2):
                written = write_names(data, run.prompter, style, test)
                rows[name]["styles"][style].append(name_scores(data, written, test))
                if style == 0:
                    rows[name]["written"].append(written[:shown])
        if name == "Q-Former, both stages":
            rows[name]["likelihood"] = likelihood_recall(data, runs[0].prompter, 0, test)
        lap(name)
    ridge, strength = ridge_recall(data, [10.0**k for k in (0, 0.5, 1, 1.5, 2, 2.5, 3)])
    return {
        "rows": rows,
        "itc": itc,
        "stage1": curves1,
        "ridge": ridge,
        "strength": strength,
        "names": [data.names[i] for i in test[:shown].tolist()],
        "concepts": test[:shown].tolist(),
        "sizes": {part: len(which) for part, which in data.parts.items()},
        "queries": num_queries,
        "lm_parameters": sum(p.numel() for p in data.lm.parameters()),
        "seconds": seconds,
    }


def sweep_queries(
    data: Emoji,
    counts: Sequence[int],
    rate: float,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 300,
    batch: int = 256,
    sizes: dict | None = None,
) -> dict:
    """The Q-Former with stage 2 alone and several numbers of queries: scores on *validation*."""
    width = data.lm.get_input_embeddings().embedding_dim
    which, rows = data.parts["validation"], {}
    for count in counts:

        def make(seed: int, count: int = count) -> nn.Module:
            return QFormerPrompter(
                new_qformer(data, count, seed, **(sizes or {})), width
            ).to(data.device)

        runs, _ = _train(data, make, rate, steps, batch, seeds)
        rows[str(count)] = {
            "validation": [run.validation for run in runs],
            "scores": [
                name_scores(data, write_names(data, run.prompter, 0, which), which)
                for run in runs
            ],
        }
    return {"rows": rows, "rate": rate}


def _train(data, make, rate, steps, batch, seeds) -> tuple[list[Trained], int]:
    """The runs, and how many numbers of one prompter got a gradient."""
    prompters = []
    for seed in seeds:
        torch.manual_seed(seed)
        prompters.append(make(seed))
    runs = stage2(data, prompters, [rate] * len(seeds), steps=steps, batch=batch, seeds=seeds)
    return runs, sum(p.numel() for p in prompters[0].parameters() if p.grad is not None)


def _best_rate(data, make, rates, steps, batch, seed) -> tuple[float, list[float]]:
    """The rate with the least validation loss, and the losses of all."""
    prompters = []
    for _ in rates:
        torch.manual_seed(seed)
        prompters.append(make(seed))
    runs = stage2(
        data, prompters, rates, steps=steps, batch=batch, seeds=[seed] * len(rates), checks=4
    )
    losses = [run.validation for run in runs]
    return rates[losses.index(min(losses))], losses
