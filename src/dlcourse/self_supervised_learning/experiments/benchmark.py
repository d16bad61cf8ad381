"""All methods of chapter 120 in one table: one encoder, one set of pictures, equal time.

Chapter: ``120_self_supervised_learning/0_overview`` (recorded cells ``benchmark-…``).

A result is a nested dict: method → reading → factor → share of the labels (in per cent, as text)
→ one test accuracy a seed. Readings are "k-NN", "logistic probe" and "fine-tuned"; "supervised" has
"fine-tuned" only, from random weights, with as many steps as fine-tuning has, or as many as fit
into the seconds for it; "random" and "pixels" are the baselines without training.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dlcourse.self_supervised_learning.experiments.benchmark_fine_tuning import (
    Choice,
    FineTuned,
    choose,
    fine_tune_all,
)
from dlcourse.self_supervised_learning.experiments.benchmark_methods import (
    POOLING,
    Contest,
    make_encoder,
    pretrain_for,
    steps_in,
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
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = ["PARTS", "Benchmark", "combined", "in_words"]

# The recorded cells ``120.0.benchmark-…``: what each measures fits into a few minutes.
PARTS = ("simclr", "dino", "simmim", "mae", "supervised", "baselines")

Table = dict[str, dict[str, dict[str, dict[str, list[float]]]]]
Tried = dict[float, dict[Choice, FineTuned]]  # share → choice → accuracies


class Benchmark:
    """Paints the pictures once, then trains and reads one contestant after the other.

    What has been measured so far, by contestant: ``table``; ``steps`` of the (longest) training;
    ``seconds`` of it, one a seed; ``chosen``, by share: views, rate and steps of each factor, one
    dict a seed; ``rank``, the features' effective rank, one a seed.
    """

    def __init__(self, contest: Contest, seeds: Sequence[int] = (0, 1, 2)) -> None:
        self.contest, self.seeds = contest, tuple(seeds)
        c = contest
        sizes = (c.pictures, c.labelled, c.tested)
        parts = [paint(n, c.size, 7000 + i, c.device) for i, n in enumerate(sizes)]
        self.train, self.validation, self.test = parts
        self.table: Table = {}
        self.steps: dict[str, int] = {}
        self.seconds: dict[str, list[float]] = {}
        self.chosen: dict[str, dict[str, list[dict[str, Choice]]]] = {}
        self.rank: dict[str, list[float]] = {}

    def method(self, name: str) -> None:
        """Pre-train by a method for the contest's seconds, once a seed, and read every way."""
        images = self.train.x

        def trial(steps: int) -> float:
            return pretrain_for(name, self.contest, images, 0, steps).seconds

        steps = self.steps[name] = steps_in(self.contest.seconds, trial)
        for seed in self.seeds:
            done = pretrain_for(name, self.contest, images, seed, steps)
            self.seconds.setdefault(name, []).append(done.seconds)
            features = [encode(done.encoder, POOLING[name], part) for part in self._read(seed)]
            self._frozen(name, features, seed)
            self._chosen(name, [self._fine_tuned(done.encoder, POOLING[name], seed)])
        self._report(name)

    def random(self) -> None:
        """The encoder as it starts, read but not trained."""
        for seed in self.seeds:
            encoder = make_encoder(self.contest, seed).eval()
            features = [encode(encoder, "mean", part) for part in self._read(seed)]
            self._frozen("random", features, seed)
        self._report("random")

    def pixels(self) -> None:
        """No encoder: the pixels themselves."""
        for seed in self.seeds:
            flat = [Pictures(part.x.flatten(1), part.labels) for part in self._read(seed)]
            self._frozen("pixels", flat, seed)
        self._report("pixels")

    def supervised(self) -> None:
        """From random weights on labels alone: as many steps as in fine-tuning, and as many as fit
        into the contest's seconds for it, all numbers of labels, views and rates together."""
        short = self.contest.label_steps

        def trained(steps: int, seed: int) -> Tried:
            return self._fine_tuned(make_encoder(self.contest, seed), "mean", seed, steps)

        def trial(steps: int) -> float:
            begin = time.perf_counter()
            trained(steps, 0)
            wait(self.contest.device)
            return time.perf_counter() - begin

        # So many steps in the trial that reading the runs after it hardly counts.
        fit = steps_in(self.contest.supervised_seconds, trial, trial=short)
        long = self.steps["supervised"] = max(short + 1, fit)
        for seed in self.seeds:
            tried = [trained(short, seed)]
            begin = time.perf_counter()
            tried.append(trained(long, seed))
            self.seconds.setdefault("supervised", []).append(time.perf_counter() - begin)
            self._chosen("supervised", tried)
        self._report("supervised")

    def kept(self) -> dict[str, Any]:
        """What a recorded cell keeps."""
        c = self.contest
        return {
            "table": self.table,
            "steps": self.steps,
            "seconds": self.seconds,
            "chosen": self.chosen,
            "rank": self.rank,
            "pictures": c.pictures,
            "labelled": c.labelled,
            "tested": c.tested,
            "batch_size": c.batch_size,
            "label_steps": c.label_steps,
            "label_batch": c.label_batch,
            "rates": list(c.rates),
            "label_views": list(c.label_views),
            "probe_decays": list(c.probe_decays),
            "seconds_wanted": c.seconds,
            "supervised_seconds": c.supervised_seconds,
            "encoder": {"depth": c.depth, "width": c.embed_dim, "heads": c.num_heads,
                        "patch": c.patch_size, "image": c.size},
        }  # fmt: skip

    def _read(self, seed: int) -> list[Pictures]:
        """The pictures of which features are needed: the largest share to fit and choose, test."""
        largest = max(self.contest.shares)
        fit = labelled_parts(self.train, self.validation, largest, self.contest, seed)
        return [*fit, self.test]

    def _frozen(self, name: str, features: list[Pictures], seed: int) -> None:
        """k-NN and the probe at each share; a smaller share is the beginning of the largest."""
        train, validation, test = features
        self.rank.setdefault(name, []).append(effective_rank(test.x))
        for share in self.contest.shares:
            n = self.contest.labels_of(share)
            few, to_choose = (part.rows(slice(n)) for part in (train, validation))
            self._add(name, "k-NN", share, neighbours(few, test))
            probe = logistic_accuracies(few, to_choose, test, self.contest.probe_decays)
            self._add(name, "logistic probe", share, probe)

    def _fine_tuned(
        self, start: VisionTransformer, pooling: str, seed: int, steps: int | None = None
    ) -> Tried:
        """All trainings on labels of one start, with every share, views and rate."""
        return fine_tune_all(
            copy.deepcopy(start), pooling, *self._read(seed), self.contest,
            steps or self.contest.label_steps, seed,
        )  # fmt: skip

    def _chosen(self, name: str, tried: Sequence[Tried]) -> None:
        """Of all trainings of a seed, enter the best on validation, for each share and factor."""
        for share in self.contest.shares:
            of_share = {c: run for part in tried for c, run in part[share].items()}
            best = choose(of_share)
            test = {factor: of_share[c].test[factor] for factor, c in best.items()}
            self._add(name, "fine-tuned", share, test)
            self.chosen.setdefault(name, {}).setdefault(in_words(share), []).append(best)

    def _add(self, name: str, reading: str, share: float, accuracy: dict[str, float]) -> None:
        factors = self.table.setdefault(name, {}).setdefault(reading, {})
        for factor, value in accuracy.items():
            factors.setdefault(factor, {}).setdefault(in_words(share), []).append(value)

    def _report(self, name: str) -> None:
        """Print the contestant's rows: means over seeds, in per cent."""
        taken = self.seconds.get(name)
        note = f"  {self.steps.get(name, '')} steps, {max(taken):.1f} s a seed" if taken else ""
        print(f"{name}{note}")
        for reading, factors in self.table[name].items():
            cells = [
                f"{factor} " + " ".join(f"{100 * sum(v) / len(v):5.1f}" for v in by.values())
                for factor, by in factors.items()
            ]
            print(f"  {reading:15}" + "   ".join(cells), flush=True)


def in_words(share: float) -> str:
    """A share in per cent, as the tables' keys have it: 0.01 → "1"."""
    return f"{100 * share:g}"


def combined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several recorded cells kept, as one.

    Raises ValueError where they differ in what all contestants share.
    """
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if name in ("table", "steps", "seconds", "chosen", "rank"):  # by contestant
                whole.setdefault(name, {}).update(value)
            elif whole.setdefault(name, value) != value:
                raise ValueError(f"{name} is {whole[name]} in one part and {value} in another")
    return whole
