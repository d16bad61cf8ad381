"""What a shared space is good for: retrieval, classes from words, and the gap between modalities.

Chapter: ``121_multimodal_fusion/2a_clip``.

Papers:
    Radford et al. (2021), section 3.1.4 (prompts and their ensemble).
    Liang et al. (2022), *Mind the Gap* (the modality gap).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcourse.multimodal_fusion.clip.checks import check_features, check_finite, widened

__all__ = ["modality_gap", "retrieval_recall", "zero_shot_classifier"]


@torch.no_grad()
def retrieval_recall(
    image_features: Tensor, text_features: Tensor, ks: Sequence[int] = (1, 5, 10)
) -> dict[int, tuple[float, float]]:
    """How often the right one is among the k nearest, ``{k: (image to text, text to image)}``.

    Features are normalised here. Where others lie exactly as near as the right one, it ranks
    behind them: a model that gives the same vector to everything finds nothing.

    Args:
        image_features, text_features: (N, D); row i of both is pair i.
        ks: numbers of candidates, each in 1 … N.

    Raises:
        TypeError, ValueError: as ``clip_loss``; features that are not finite; a k out of range.
    """
    check_features(image_features, text_features)
    n = len(image_features)
    if not ks or any(not 1 <= k <= n for k in ks):
        raise ValueError(f"each k must be in 1 … {n}, the number of candidates: got {list(ks)}")
    check_finite("image_features", image_features)
    check_finite("text_features", text_features)
    x, y = (F.normalize(widened(z), dim=1) for z in (image_features, text_features))
    ranks = []
    for queries, candidates in ((x, y), (y, x)):
        rank = []
        for start in range(0, n, 4096):
            similarity = queries[start : start + 4096] @ candidates.T
            own = torch.arange(start, start + len(similarity), device=x.device)
            right = similarity.gather(1, own[:, None])
            # itself is as near as itself; whoever else is as near or nearer comes first
            rank.append((similarity >= right).sum(1))
        ranks.append(torch.cat(rank))
    return {k: tuple(float((r <= k).double().mean()) for r in ranks) for k in ks}


@torch.no_grad()
def zero_shot_classifier(
    encode_text: Callable[[list[str]], Tensor],
    class_names: Sequence[str],
    templates: Sequence[str] = ("a photo of a {}.",),
) -> Tensor:
    """A linear classifier made of words: (C, D), rows of length 1. Logits are features @ its
    transpose.

    Each class is described with every template; the normalised features of its descriptions are
    averaged, and the mean is normalised.

    Args:
        encode_text: a list of N texts → (N, D).
        class_names: C different names.
        templates: texts with ``{}`` where the name goes.

    Raises ValueError: no names, no templates, an empty or repeated name, a template without
    ``{}``, or features of the wrong shape or not finite.

    Source: Radford et al. (2021), section 3.1.4: "in the embedding space instead of the
    probability space".
    """
    names, templates = list(class_names), list(templates)
    if isinstance(class_names, str) or not names or not all(name.strip() for name in names):
        raise ValueError(f"class_names must be a list of names, none of them empty: {class_names}")
    if len(set(names)) < len(names):
        raise ValueError("class_names has a name twice: no text can tell the two apart")
    if not templates or any("{}" not in template for template in templates):
        raise ValueError(f"each template needs {{}} where the name goes, got {templates}")
    texts = [template.replace("{}", name) for name in names for template in templates]
    features = encode_text(texts)
    if features.dim() != 2 or len(features) != len(texts):
        raise ValueError(f"encode_text gave {tuple(features.shape)} for {len(texts)} texts")
    check_finite("text features", features)
    each = F.normalize(widened(features), dim=1).view(len(names), len(templates), -1)
    return F.normalize(each.mean(1), dim=1)  # mean over the templates, then back to length 1


@torch.no_grad()
def modality_gap(image_features: Tensor, text_features: Tensor) -> float:
    """Distance between the mean image and the mean text, both normalised first; in 0 … 2.

    Raises TypeError, ValueError: as ``clip_loss``; features that are not finite.

    Source: Liang et al. (2022), section 2.
    """
    check_features(image_features, text_features)
    check_finite("image_features", image_features)
    check_finite("text_features", text_features)
    x, y = (F.normalize(widened(z), dim=1) for z in (image_features, text_features))
    return float((x.mean(0) - y.mean(0)).norm())
