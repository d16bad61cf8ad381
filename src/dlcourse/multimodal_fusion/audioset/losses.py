"""Many labels at once: binary cross-entropy on logits, and two answers to rare classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dlcourse.multimodal_fusion.audioset._checks import check_finite, check_targets


def multilabel_loss(
    logits: Tensor, targets: Tensor, positive_weight: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy of each class for itself, from logits; the mean over all.

    With z the logit and y the target, one term is −w y log σ(z) − (1 − y) log(1 − σ(z)). It is
    computed as softplus(z) − y z (for w = 1), which is right for any z. Taken from probabilities,
    log(1 − σ(z)) is log 0 as soon as σ(z) rounds to 1, at z = 17 in float32.

    Args:
        logits: (B, C).
        targets: (B, C), 0 … 1; fractions come from mixup.
        positive_weight: w, (C,), from ``positive_weights``; None: 1.

    Raises:
        ValueError: other shapes, targets outside of 0 … 1, logits that are not finite.
    """
    check_targets(logits, targets)
    check_finite(logits, "the logits")
    targets = targets.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=positive_weight)


def positive_weights(targets: Tensor, at_most: float = 100.0) -> Tensor:
    """Negatives over positives of each class, (N, C) -> (C,): both sides weigh the same then.

    Classes without positives get ``at_most``; it also bounds the weight of the rarest ones, whose
    few clips would else make the gradient noisy.
    """
    check_targets(targets, targets)
    positives = targets.float().sum(0)
    return ((len(targets) - positives) / positives.clamp(min=1e-9)).clamp(max=at_most)


def balanced_weights(targets: Tensor) -> Tensor:
    """How often to draw each clip so that rare classes come as often as others: (N, C) -> (N,).

    The weight of a clip is the sum of 1 / (clips of the class) over its classes; a clip without a
    label gets the smallest weight. Made for ``torch.utils.data.WeightedRandomSampler``; as in the
    training of AST (Gong, Chung and Glass, Interspeech 2021).
    """
    check_targets(targets, targets)
    weights = targets.float() @ (1 / targets.float().sum(0).clamp(min=1))
    labelled = weights > 0
    smallest = weights[labelled].min() if labelled.any() else weights.new_tensor(1.0)
    return weights.where(labelled, smallest)
