"""Stage 1: three losses that teach the queries what of a picture a text needs.

The temperature's start, the smoothing and the drawing of negatives are those of LAVIS at BLIP-2's
release; the temperature's limits, 0.001 and 0.5, are those of ALBEF, from which LAVIS' losses come.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcourse.multimodal_fusion.blip2.masks import being_captured
from dlcourse.multimodal_fusion.blip2.qformer import QFormer


class Stage1Losses(NamedTuple):
    """Three scalars; training takes their sum."""

    itc: Tensor
    itm: Tensor
    itg: Tensor


def itc_similarity(queries: Tensor, text: Tensor) -> Tensor:
    """``(B, Q, E)`` and ``(C, E)``, unit vectors → ``(B, C)``: the query that fits a text best."""
    return torch.einsum("bqe,ce->bcq", queries, text).amax(-1)


def itc_loss(logits: Tensor, same: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy in both directions over ``(B, B)`` logits.

    Args:
        logits: similarity / temperature, pictures × texts.
        same: bool ``(B, B)``: which texts are right for which pictures; the diagonal at least.
    """
    target = same.float() / same.sum(1, keepdim=True)
    target = (1 - smoothing) * target + smoothing / len(logits)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target.T)) / 2


def negative_weights(logits: Tensor, same: Tensor) -> Tensor:
    """How likely each column is to be drawn as a row's negative: more if it is taken for right.

    Each row is a softmax of its logits, with 10⁻⁴ added so that every column has a chance; what
    is right is never drawn. A row in which everything is right keeps zeros.
    """
    weights = F.softmax(logits.float(), dim=1) + 1e-4
    weights = weights.masked_fill(same, 0.0)
    return weights / weights.sum(1, keepdim=True).clamp_min(1e-12)


def draw_columns(weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One column a row of ``(B, C)`` weights, int64 ``(B,)``: as ``multinomial``, which makes the
    host wait. The least of exponential times with these rates is each one's with its probability.
    """
    times = torch.empty_like(weights).exponential_(generator=generator)
    return (weights / times).argmax(1)


def itm_loss(match_logits: Tensor, matches: Tensor) -> Tensor:
    """``(B, Q, 2)`` logits, one pair a query, averaged over queries; ``matches`` int64 ``(B,)``."""
    return F.cross_entropy(match_logits.mean(1).float(), matches)


def itg_loss(word_logits: Tensor, ids: Tensor, text_mask: Tensor, smoothing: float = 0.1) -> Tensor:
    """Each token from those before it: ``(B, T, vocab)`` logits, ``ids`` and mask ``(B, T)``."""
    target = ids.masked_fill(~text_mask, -100)[:, 1:]
    logits = word_logits[:, :-1].float()
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), label_smoothing=smoothing)


def stage1_losses(
    qformer: QFormer,
    image: Tensor,
    ids: Tensor,
    text_mask: Tensor,
    *,
    dec_id: int,
    groups: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Stage1Losses:
    """ITC, ITM and ITG of a batch (BLIP-2, section 3.2).

    Args:
        image: ``(B, N, image_dim)``, features of a frozen model.
        ids: int64 ``(B, T)``; the first token of each text is [CLS].
        text_mask: bool ``(B, T)``.
        dec_id: the token that stands for [CLS] where the text is to be generated.
        groups: int64 ``(B,)``: rows of one group have the same text, so they are no negatives of
            each other. None: each row is its own group.
        generator: draws the negatives, on the features' device.

    Raises:
        ValueError: fewer than two groups: there is nothing to contrast with. No text with a token
            after [CLS]: there is nothing to write. Image features that are not finite.
    """
    b = len(image)
    groups = torch.arange(b, device=image.device) if groups is None else groups
    same = groups[:, None] == groups  # (B, B)
    if not being_captured(same) and bool(same.all(1).any()):
        raise ValueError("need at least two different texts in a batch: one has no negative")

    captured = being_captured(image)
    if not captured and not bool(text_mask[:, 1:].any()):
        raise ValueError("no text has a token after its first: there is nothing to write")
    if not captured and not bool(image.isfinite().all()):
        raise ValueError("the image features hold NaN or infinity")

    # ITC: queries and text apart, which is what the mask "itc" does to them together
    queries, _ = qformer(image)
    _, text = qformer(ids=ids, text_mask=text_mask)
    queries = F.normalize(qformer.image_proj(queries).float(), dim=-1)  # (B, Q, E)
    text = F.normalize(qformer.text_proj(text[:, 0]).float(), dim=-1)  # (B, E)
    with torch.autocast(image.device.type, enabled=False):  # a temperature magnifies rounding
        logits = itc_similarity(queries, text) / qformer.temperature.clamp(0.001, 0.5)
        itc = itc_loss(logits, same)

    # ITM: a pair that is right, its picture with a wrong text, its text with a wrong picture
    with torch.no_grad():
        wrong_text = draw_columns(negative_weights(logits, same), generator)
        wrong_image = draw_columns(negative_weights(logits.T, same.T), generator)
    seen, _ = qformer(
        torch.cat([image, image, image[wrong_image]]),
        torch.cat([ids, ids[wrong_text], ids]),
        torch.cat([text_mask, text_mask[wrong_text], text_mask]),
        "itm",
    )
    matches = (torch.arange(3 * b, device=image.device) < b).long()
    itm = itm_loss(qformer.match_head(seen), matches)

    # ITG: the text must be written from what the queries have seen
    started = torch.cat([torch.full_like(ids[:, :1], dec_id), ids[:, 1:]], dim=1)
    _, written = qformer(image, started, text_mask, "itg")
    itg = itg_loss(qformer.word_logits(written), started, text_mask)
    return Stage1Losses(itc, itm, itg)
