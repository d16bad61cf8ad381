"""Where the benchmark's time goes: each of its parts for a few steps, printed as it is measured.

Chapter: ``120_self_supervised_learning/0_overview`` (recorded cells).

    python -m dlcourse.self_supervised_learning.experiments.benchmark_times
"""

from __future__ import annotations

import time

import torch

from dlcourse.self_supervised_learning.experiments.benchmark_fine_tuning import fine_tune_all
from dlcourse.self_supervised_learning.experiments.benchmark_methods import (
    METHODS,
    Contest,
    make_encoder,
    pretrain_for,
    wait,
)
from dlcourse.self_supervised_learning.experiments.benchmark_readings import (
    Pictures,
    effective_rank,
    encode,
    labelled_parts,
    logistic_accuracies,
    neighbours,
    paint,
)

__all__ = ["print_times"]


def print_times(contest: Contest, *, steps: int = 50, limit: float = 115.0) -> None:
    """Measure until the limit in seconds is reached; what comes after it is left out."""
    begin = last = time.perf_counter()

    def lap(what: str) -> float:
        nonlocal last
        wait(contest.device)
        now = time.perf_counter()
        took, last = now - last, now
        print(f"{now - begin:7.1f} s  {took:8.3f} s  {what}", flush=True)
        return took

    def over() -> bool:
        return time.perf_counter() - begin > limit

    train = paint(contest.pictures, contest.size, 7000, contest.device)
    lap(f"painting {contest.pictures:,} pictures")
    validation = paint(contest.labelled, contest.size, 7001, contest.device)
    test = paint(contest.tested, contest.size, 7002, contest.device)
    read = [*labelled_parts(train, validation, max(contest.shares), contest, 0), test]
    lap("painting and taking the labelled ones")

    start = make_encoder(contest, 0).eval()
    fine_tune_all(start, "mean", *read, contest, 2, 0)
    lap("fine-tuning: 2 steps and reading all runs, first time")
    fine_tune_all(start, "mean", *read, contest, 2, 0)
    less = lap("fine-tuning: 2 steps and reading all runs")
    fine_tune_all(start, "mean", *read, contest, 2 + steps, 0)
    more = lap(f"fine-tuning: {2 + steps} steps and reading all runs")
    a_step = (more - less) / steps
    whole = less + a_step * contest.label_steps
    print(f"         fine-tuning of a seed: {whole:.1f} s ({1000 * a_step:.1f} ms a step)")
    if contest.device.type == "cuda":
        print(f"         peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")

    features = [encode(start, "mean", part) for part in read]
    lap("features")
    flat = [Pictures(part.x.flatten(1), part.labels) for part in read]
    for name, (few, choose, tested) in (("features", features), ("pixels", flat)):
        effective_rank(tested.x)
        lap(f"{name}: effective rank")
        for share in contest.shares:
            part = slice(contest.labels_of(share))
            neighbours(few.rows(part), tested)
            lap(f"{name}: k-NN, {100 * share:g} %")
            logistic_accuracies(few.rows(part), choose.rows(part), tested, contest.probe_decays)
            lap(f"{name}: logistic probe, {100 * share:g} %")

    for method in METHODS:
        if over():
            print(f"         {method} and what follows: left out")
            break
        pretrain_for(method, contest, train.x, 0, 5)
        lap(f"{method}: 5 steps, first time (compiles)")
        few_steps = pretrain_for(method, contest, train.x, 1, 5).seconds
        lap(f"{method}: 5 steps, second seed (compiles nothing)")
        if not over():
            seconds = pretrain_for(method, contest, train.x, 2, 5 + steps).seconds - few_steps
            lap(f"{method}: {5 + steps} steps")
            print(f"         {method}: {steps / seconds:.1f} steps/s")


if __name__ == "__main__":
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        print_times(Contest(torch.device("cuda")))
    else:  # the same path, small
        tiny = Contest(
            torch.device("cpu"), dtype=None, compiled=False, size=16, embed_dim=24, depth=1,
            num_heads=2, batch_size=8, prototypes=8, label_batch=8, label_steps=2, pictures=120,
            labelled=100, tested=40,
        )  # fmt: skip
        print_times(tiny, steps=2)
