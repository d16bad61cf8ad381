"""SigLIP's loss: each pair of a picture and a caption is a question of its own.

Chapter: ``121_multimodal_fusion/2a_clip``.

Paper: Zhai et al. (2023), *Sigmoid Loss for Language Image Pre-Training* (equation 1, algorithm 1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcourse.multimodal_fusion.clip.checks import check_features, widened

__all__ = ["siglip_loss"]


def siglip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
) -> Tensor:
    """Binary cross-entropy of all B² pairs, summed and divided by B, in nats: a scalar.

    Args:
        image_features, text_features: (B, D), of length 1 each; row i of both is pair i.
        logit_scale: t, what cosines are multiplied with (10 at the start in the paper).
        logit_bias: b, added to all logits (−10 at the start): most pairs do not match, and the
            bias says so before anything is learned.

    Raises:
        TypeError, ValueError: as ``clip_loss``.

    Source: Zhai et al. (2023), equation 1.
    """
    check_features(image_features, text_features)
    x, y = widened(image_features), widened(text_features)
    with torch.autocast(x.device.type, enabled=False):
        logits = logit_scale * (x @ y.T) + logit_bias  # (B, B)
        # −1/B · Σ_ij log σ(z_ij s_ij): z = 1 on the diagonal and −1 elsewhere. As
        # log σ(s) = s + log σ(−s), the diagonal is mended by its own logits.
        return (-F.logsigmoid(-logits).sum() - logits.diagonal().sum()) / len(x)
