"""Mean average precision: how well each class is ranked, whatever its threshold.

Chapter 121, section 1b. AudioSet's metric (Gemmeke et al., "Audio Set: An ontology and
human-labeled dataset for audio events", ICASSP 2017). Equal to scikit-learn's
``average_precision_score``, ties included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlcourse.multimodal_fusion.audioset._checks import check_finite, check_targets


def average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """AP of each class: the mean, over its clips, of the precision at their rank.

    AP = Σ_k (R_k − R_{k−1}) P_k over the thresholds k from high to low. Clips of equal score share
    a threshold, so the order in which they come does not matter.

    Args:
        scores: (N, C), higher means likelier; logits or probabilities, as only ranks count.
        targets: (N, C) of 0 and 1.

    Returns:
        float64 (C,); NaN for a class without positives.

    Raises:
        ValueError: other shapes, targets other than 0 and 1, scores that are not finite.
    """
    check_targets(scores, targets)
    check_finite(scores, "the scores")
    if not ((targets == 0) | (targets == 1)).all():
        raise ValueError("targets must be 0 or 1: average precision knows no half positives")
    n = len(scores)
    ranked, order = scores.sort(dim=0, descending=True)  # (N, C)
    hit = targets.gather(0, order).double()
    rank = torch.arange(1, n + 1, device=scores.device, dtype=torch.float64)[:, None]
    precision = hit.cumsum(0) / rank  # P after each clip
    # A threshold lies behind the last of equal scores; look it up for each clip.
    last = torch.ones_like(ranked, dtype=torch.bool)
    last[:-1] = ranked[:-1] != ranked[1:]
    place = torch.arange(n, device=scores.device)[:, None].expand_as(ranked)
    end = place.where(last, n).flip(0).cummin(0).values.flip(0)  # (N, C)
    return (hit * precision.gather(0, end)).sum(0) / hit.sum(0)


def mean_average_precision(scores: Tensor, targets: Tensor) -> float:
    """The mean of the AP over the classes that have a positive; in 0 … 1.

    A scorer that knows nothing gets about the classes' share of positives.

    Raises ValueError as ``average_precision`` does, and if no class has a positive.
    """
    ap = average_precision(scores, targets)
    known = ~ap.isnan()
    if not known.any():
        raise ValueError("no class has a positive clip, so there is nothing to rank")
    return ap[known].mean().item()
