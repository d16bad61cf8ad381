"""Who names unseen emoji best: the recorded cells of ``121_multimodal_fusion/2b_blip2``."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from dlcourse.multimodal_fusion.experiments.emoji_names import (
    BlindPrompter,
    Emoji,
    LinearPrompter,
    QFormerPrompter,
    Stage1,
    Stage2,
    Trained,
    itc_recall,
    likelihood_recall,
    name_scores,
    new_qformer,
    ridge_recall,
    validation_loss,
    write_names,
)

RATES = (1e-4, 3e-4, 1e-3)
TUNING = 0.4  # steps of a tuning run, as a part of a training's
EVALUATION = 28.0  # seconds kept for capturing, checks on validation, writing and scores
FEWEST = 20  # steps of a training, however slow the machine is

Make = Callable[[int], nn.Module]


def contest(
    data: Emoji,
    *,
    num_queries: int = 8,
    seeds: Sequence[int] = (0, 1, 2),
    steps1: int = 200,
    steps: int = 500,
    batch1: int = 256,
    batch: int = 128,
    rates: Sequence[float] = RATES,
    limit: float | None = None,
    sizes: dict | None = None,
    shown: int = 24,
) -> dict:
    """All contestants on the test concepts, which are looked at here and nowhere else.

    For each contestant the rate of stage 2 is chosen among ``rates`` by the validation loss of seed
    0 after a shorter training. Stage 1 has the middle rate.

    ``steps`` are taken by each training, or as many fewer, the same for all, as fit in a ``limit``
    of seconds for everything (of which stage 1 gets at most a quarter): a step of each contestant
    is timed first. The result says how many.

    Returns what a recorded cell keeps: plain lists and numbers.
    """
    began = time.perf_counter()
    width = data.lm.get_input_embeddings().embedding_dim
    test, sizes = data.parts["test"], sizes or {}
    seconds, before = {}, began

    def lap(name: str) -> None:
        nonlocal before
        now = time.perf_counter()
        seconds[name], before = now - before, now

    def left(share: float = 1.0, keep: float = 0.0) -> float | None:
        return None if limit is None else share * (limit - keep - time.perf_counter() + began)

    taught, curves1, how, cost = {}, [], {}, {}
    for seed in seeds:
        torch.manual_seed(seed)
        taught[seed] = new_qformer(data, num_queries, seed, **sizes)
        teaching = Stage1(data, taught[seed], batch=batch1, seed=seed)
        if seed == seeds[0]:
            how["stage 1"] = teaching.captured.how
            cost["stage 1"] = teaching.captured.seconds(teaching.example())
            steps1 = _fitting(steps1, left(share=0.25), cost["stage 1"] * len(seeds))
        curves1.append(teaching.train(steps1, rates[1]))
        del teaching
    itc = [[itc_recall(data, taught[s], style, test) for style in range(2)] for s in seeds]
    lap("stage 1")

    contestants: dict[str, Make] = {
        "no picture": lambda seed: BlindPrompter(num_queries, width),
        "linear": lambda seed: LinearPrompter(data.maps.shape[-1], width),
        "Q-Former, stage 2 alone": lambda seed: QFormerPrompter(
            new_qformer(data, num_queries, seed, **sizes), width
        ),
        "Q-Former, both stages": lambda seed: QFormerPrompter(
            copy.deepcopy(taught[seed]), width
        ),
    }
    for name, make in contestants.items():
        trial = Stage2(data, _same(data, make, seeds[0], len(seeds)), batch=batch, seeds=seeds)
        how[name], cost[name] = trial.captured.how, trial.captured.seconds(trial.example())
        del trial
    all_of_them = sum(cost[name] for name in contestants)
    planned = steps
    steps = _fitting(steps, left(keep=EVALUATION), (1 + TUNING) * all_of_them)
    tuning_steps = max(1, round(TUNING * steps))
    lap("timing")

    rows = {}
    for name, make in contestants.items():
        rate, tuned = _best_rate(data, make, rates, tuning_steps, batch, seeds[0])
        runs, learned = _train(data, make, rate, steps, batch, seeds)
        lap(f"{name}: training")
        written = write_names(data, [run.prompter for run in runs], (0, 1), test)
        rows[name] = {
            "rate": rate,
            "tuning": tuned,
            "learned": learned,
            "validation": [run.validation for run in runs],
            "step": [run.step for run in runs],
            "curves": [run.curve for run in runs],
            "styles": [[name_scores(data, w[style], test) for w in written] for style in (0, 1)],
            "written": [w[0][:shown] for w in written],
        }
        lap(f"{name}: writing")
        if name == "Q-Former, both stages":
            rows[name]["likelihood"] = likelihood_recall(data, runs[0].prompter, 0, test)
            lap("likelihood")
    ridge, strength = ridge_recall(data, [10.0**k for k in (0, 0.5, 1, 1.5, 2, 2.5, 3)])
    lap("ridge")
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
        "settings": {
            "steps1": steps1, "batch1": batch1, "steps": steps, "tuning_steps": tuning_steps,
            "batch": batch, "planned": planned, "limit": limit,
        },
        "how": how,
        "seconds a step": cost,
        "seconds": seconds,
    }  # fmt: skip


def sweep_queries(
    data: Emoji,
    counts: Sequence[int],
    rate: float,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 400,
    batch: int = 128,
    limit: float | None = None,
    sizes: dict | None = None,
) -> dict:
    """The Q-Former with stage 2 alone and several numbers of queries: scores on *validation*.

    ``steps`` and ``limit`` as in ``contest``.
    """
    began = time.perf_counter()
    width = data.lm.get_input_embeddings().embedding_dim
    which, rows = data.parts["validation"], {}
    makes: dict[int, Make] = {
        count: lambda seed, count=count: QFormerPrompter(
            new_qformer(data, count, seed, **(sizes or {})), width
        )
        for count in counts
    }
    how, cost = {}, {}
    for count, make in makes.items():
        trial = Stage2(data, _same(data, make, seeds[0], len(seeds)), batch=batch, seeds=seeds)
        how[str(count)] = trial.captured.how
        cost[str(count)] = trial.captured.seconds(trial.example())
        del trial
    left = None if limit is None else limit - EVALUATION / 2 - (time.perf_counter() - began)
    steps = _fitting(steps, left, sum(cost.values()))
    for count, make in makes.items():
        runs, _ = _train(data, make, rate, steps, batch, seeds)
        written = write_names(data, [run.prompter for run in runs], (0,), which)
        rows[str(count)] = {
            "validation": [run.validation for run in runs],
            "scores": [name_scores(data, w[0], which) for w in written],
        }
    return {
        "rows": rows,
        "rate": rate,
        "settings": {"steps": steps, "batch": batch, "limit": limit},
        "how": how,
        "seconds a step": cost,
        "seconds": time.perf_counter() - began,
    }


def first_position(
    data: Emoji,
    *,
    rates: Sequence[float] = (3e-4, 1e-3),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 150,
    batch: int = 128,
    num_queries: int = 8,
    sizes: dict | None = None,
) -> dict:
    """Stage 2 alone, with a token before the soft prompt and without, with dropout and without.

    Losses are means a token, in nats, of the weights at the best check on *validation*; "in use"
    is without dropout, "with dropout" that of the last training step.
    """
    began = time.perf_counter()
    width, rows = data.lm.get_input_embeddings().embedding_dim, []
    for first in (False, True):
        seen = data if first else dataclasses.replace(data, first=data.first[:0])
        for dropout in (0.1, 0.0):

            def make(seed: int, dropout: float = dropout) -> nn.Module:
                qformer = new_qformer(data, num_queries, seed, **(sizes or {}), dropout=dropout)
                return QFormerPrompter(qformer, width)

            for rate in rates:
                runs, _ = _train(seen, make, rate, steps, batch, seeds)
                rows.append(
                    {
                        "first": first,
                        "dropout": dropout,
                        "rate": rate,
                        "validation": [run.validation for run in runs],
                        "training, in use": [
                            validation_loss(seen, run.prompter, "train") for run in runs
                        ],
                        "training, with dropout": [run.curve[-1][1] for run in runs],
                    }
                )
    return {
        "rows": rows,
        "settings": {"steps": steps, "batch": batch, "queries": num_queries},
        "seconds": time.perf_counter() - began,
    }


def _fitting(steps: int, left: float | None, cost: float) -> int:
    """So many of ``steps`` as fit in the seconds left, at ``cost`` a step; never too few."""
    return steps if left is None else min(steps, max(FEWEST, int(left / cost)))


def _same(data: Emoji, make: Make, seed: int, n: int) -> list[nn.Module]:
    """The contestant of one seed, n times."""
    torch.manual_seed(seed)
    first = make(seed).to(data.device)
    return [first, *(copy.deepcopy(first) for _ in range(n - 1))]


def _train(data, make, rate, steps, batch, seeds) -> tuple[list[Trained], int]:
    """The runs, and how many numbers of one prompter got a gradient."""
    prompters = [_same(data, make, seed, 1)[0] for seed in seeds]
    training = Stage2(data, prompters, batch=batch, seeds=seeds)
    runs = training.train(steps, [rate] * len(seeds))
    return runs, sum(p.numel() for p in prompters[0].parameters() if p.grad is not None)


def _best_rate(data, make, rates, steps, batch, seed) -> tuple[float, list[float]]:
    """The rate with the least validation loss, and the losses of all."""
    prompters = _same(data, make, seed, len(rates))
    training = Stage2(data, prompters, batch=batch, seeds=[seed] * len(rates))
    losses = [run.validation for run in training.train(steps, rates, checks=4)]
    return rates[losses.index(min(losses))], losses
