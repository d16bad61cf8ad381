"""A closed form for the head between frozen encoders that asks, as InfoNCE does, for differences:
ridge regression to whitened names.

Chapter: ``121_multimodal_fusion/2a_clip`` (its recorded cell ``emoji-whitened``).
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcourse.multimodal_fusion.clip.metrics import retrieval_recall
from dlcourse.multimodal_fusion.experiments.emoji_head import (
    STYLES,
    Emoji,
    Head,
    _standard,
    emoji_data,
)

__all__ = ["compare_whitened", "record_whitened", "whitened_head"]

STRENGTHS = (100.0, 300.0, 1000.0, 3000.0)
SHRINKAGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def whitened_head(
    data: Emoji, fit: Tensor, strength: float, shrinkage: float
) -> tuple[Head, Callable[[Tensor], Tensor]]:
    """Ridge regression to names whose mean is taken off and whose directions all count alike.

    Args:
        data: features of all concepts.
        fit: the concepts to fit on, in both styles.
        strength: of the ridge, as in ``ridge_head``.
        shrinkage: share of the mean variance that is added to each direction's; large values leave
            the directions as they are.

    Returns:
        Two functions to compare by cosine: of pictures' features (N, D), and of names (M, E).
    """
    standard = _standard(data.pictures, fit)
    x = standard(data.pictures[:, fit].flatten(0, 1)).double()
    names = data.names[fit].double()
    mean = names.mean(0)
    variance, axes = torch.linalg.eigh((names - mean).T @ (names - mean) / len(names))
    whiten = axes * (variance.clamp(min=0) + shrinkage * variance.mean()).rsqrt()
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    target = ((names - mean) @ whiten).repeat(len(STYLES), 1)
    weights = torch.linalg.solve(x.T @ x + strength * eye, x.T @ target)
    return (
        lambda pictures: (standard(pictures).double() @ weights).float(),
        lambda new: ((new.double() - mean) @ whiten).float(),
    )


def compare_whitened(
    data: Emoji,
    split: Callable[[int], tuple[Tensor, Tensor, Tensor]],
    seeds: Sequence[int],
    ks: Sequence[int] = (1, 5, 10),
    strengths: Sequence[float] = STRENGTHS,
    shrinkages: Sequence[float] = SHRINKAGES,
) -> dict[str, Any]:
    """The protocol of ``compare_heads``: chosen on validation, fitted once more, tested once.

    Returns "whitened": style → list over seeds of R@k; "chosen": list of settings.
    """

    def recalls(part: Tensor, test: Tensor, setting: tuple, ks: Sequence[int]) -> list[list[float]]:
        head, names = whitened_head(data, part, *setting)
        captions = F.normalize(names(data.names[test]), dim=1)
        found = []
        for pictures in data.pictures:
            recall = retrieval_recall(head(pictures[test]), captions, ks)
            found.append([recall[k][0] for k in ks])
        return found

    found: dict[str, Any] = {"whitened": {style: [] for style in STYLES}, "chosen": []}
    for seed in seeds:
        train, validation, test = split(seed)
        quality = {
            setting: statistics.mean(r[0] for r in recalls(train, validation, setting, [1]))
            for setting in itertools.product(strengths, shrinkages)
        }
        best = max(quality, key=quality.get)
        measured = recalls(torch.cat([train, validation]), test, best, ks)
        for style, values in zip(STYLES, measured):
            found["whitened"][style].append(values)
        found["chosen"].append(list(best))
    return found


def record_whitened(seeds: Sequence[int]) -> dict[str, Any]:
    """What the recorded cell keeps: ``compare_whitened`` on the splits of the emoji."""
    from dlcourse.datasets import emoji_splits

    return compare_whitened(emoji_data(), emoji_splits, seeds)
