"""CLIP's loss for one process: as the paper writes it, and with half of the products.

Chapter: ``121_multimodal_fusion/2a_clip``.

Papers:
    Radford et al. (2021), *Learning Transferable Visual Models From Natural Language Supervision*
    (figure 3).
    van den Oord, Li, Vinyals (2018), *Representation Learning with Contrastive Predictive Coding*.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcourse.multimodal_fusion.clip.checks import check_features, widened

__all__ = ["clip_loss", "clip_loss_reference"]


def clip_loss_reference(
    image_features: Tensor, text_features: Tensor, logit_scale: float | Tensor
) -> Tensor:
    """CLIP's loss as a double loop, one picture and one caption after the other, to compare with.

    Arguments, result and errors are those of ``clip_loss``. Its ``exp`` overflows where logits
    are large.

    Source: Radford et al. (2021), figure 3.
    """
    check_features(image_features, text_features)
    n = len(image_features)
    total = image_features.new_zeros(())
    for i in range(n):
        # s_ij = scale · x_i · y_j
        right = torch.exp(logit_scale * (image_features[i] @ text_features[i]))
        captions = sum(torch.exp(logit_scale * (image_features[i] @ y)) for y in text_features)
        pictures = sum(torch.exp(logit_scale * (x @ text_features[i])) for x in image_features)
        # −log( exp s_ii / Σ_j exp s_ij ): which caption belongs to picture i?
        total = total - torch.log(right / captions)
        # −log( exp s_ii / Σ_j exp s_ji ): which picture belongs to caption i?
        total = total - torch.log(right / pictures)
    return total / (2 * n)


def clip_loss(
    image_features: Tensor, text_features: Tensor, logit_scale: float | Tensor
) -> Tensor:
    """The symmetric cross-entropy over all pictures and captions of a batch, in nats: a scalar.

    One matrix product serves both directions: the texts' logits are the images' transposed. The
    arithmetic is float32 or wider, also for half-precision features and under autocast.

    Args:
        image_features, text_features: (B, D), of length 1 each; row i of both is pair i.
        logit_scale: what cosines are multiplied with, 1/τ (the exponential of CLIP's parameter).

    Raises:
        TypeError: features that are not floating point.
        ValueError: shapes that do not fit each other, an empty batch, or on a CPU features that are
            not finite.

    Source: Radford et al. (2021), figure 3.
    """
    check_features(image_features, text_features)
    x, y = widened(image_features), widened(text_features)
    with torch.autocast(x.device.type, enabled=False):
        logits = logit_scale * (x @ y.T)  # (B, B): s_ij of picture i and caption j
        rows = torch.logsumexp(logits, 1)  # (B,): over the captions
        columns = torch.logsumexp(logits, 0)  # (B,): over the pictures
        # ½ · mean( logΣ_j exp s_ij − s_ii ) + ½ · mean( logΣ_j exp s_ji − s_ii )
        return ((rows + columns) / 2 - logits.diagonal()).mean()


def grouped_clip_loss(
    image_features: Tensor, text_features: Tensor, logit_scale: float | Tensor, group: int
) -> Tensor:
    """The mean of ``clip_loss`` over groups of ``group`` successive pairs: fewer negatives, from
    the same pairs. It is what data-parallel ranks compute that do not gather their features.

    Raises ValueError where the batch is no multiple of the group.
    """
    check_features(image_features, text_features)
    n, d = image_features.shape
    if group < 1 or n % group:
        raise ValueError(f"a batch of {n} can't be cut into groups of {group}")
    x, y = (widened(z).view(-1, group, d) for z in (image_features, text_features))
    with torch.autocast(x.device.type, enabled=False):
        logits = logit_scale * (x @ y.mT)  # (G, group, group)
        target = torch.arange(group, device=x.device).expand(len(x), group)
        rows = F.cross_entropy(logits.mT, target)  # over the captions: dimension 1 of the classes
        columns = F.cross_entropy(logits, target)
        return (rows + columns) / 2
