"""Scores of section 121.1a: mean average precision, what attention looks at, a linear baseline."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dlcourse.multimodal_fusion.audio_visual.model import AudioVisualModel
from dlcourse.multimodal_fusion.experiments.audio_visual_data import Clips


def mean_precision(scores: Tensor, targets: Tensor) -> float:
    """Average precision of each class, ties counted together, and its mean: ``(N, C)`` twice.

    Equal to scikit-learn's ``average_precision_score(targets, scores, average="macro")``.
    """
    precisions = []
    for s, t in zip(scores.T.double(), targets.T.double(), strict=True):
        order = s.argsort(descending=True, stable=True)
        s, found = s[order], t[order].cumsum(0)
        last = torch.ones_like(s, dtype=torch.bool)
        last[:-1] = s[1:] != s[:-1]  # the last of each group of equal scores
        ranks = torch.arange(1, len(s) + 1, device=s.device)[last]
        found = found[last]
        gained = found.diff(prepend=found.new_zeros(1))
        precisions.append((gained * found / ranks).sum() / found[-1])
    return torch.stack(precisions).mean().item()


def means_over_time(clips: Clips) -> Tensor:
    """Mean spectrum, its deviation, and the mean picture: what is left without any time."""
    mel = clips.mel
    return torch.cat([mel.mean(2), mel.std(2), clips.frames.mean(1).flatten(1)], 1)


def linear_on_means(train: Clips, test: Clips, steps: int = 60) -> Tensor:
    """Logits of a logistic regression on ``means_over_time``, by L-BFGS with a small decay."""
    x, z = means_over_time(train), means_over_time(test)
    mean, scale = x.mean(0), x.std(0) + 1e-6
    x, z = (x - mean) / scale, (z - mean) / scale
    weight = torch.zeros(x.shape[1], 16, device=x.device, requires_grad=True)
    bias = torch.zeros(16, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(x @ weight + bias, train.target)
        loss = loss + 1e-5 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return (z @ weight + bias).detach()


@torch.no_grad()
def attention_on_own_event(model: AudioVisualModel, clips: Clips, layer: int = 0) -> list[float]:
    """Of the weight that the sound of an event gives to pictures of any event, the share that goes
    to its own; and the share if it looked at all of those pictures alike. Clips with 2 or 3 events.
    """
    weights = model.attention_maps(clips.mel, clips.frames)[layer][0].mean(1)  # (N, Ta, Tv)
    times = [(torch.arange(n, device=weights.device) + 0.5) / n for n in weights.shape[1:]]
    f = clips.factors
    start, end = f.onset[..., None], (f.onset + f.duration)[..., None]
    # (N, 3, Ta), (N, 3, Tv)
    heard, seen = (((t >= start) & (t < end) & f.present[..., None]).float() for t in times)
    own = torch.einsum("nea,nav,nev->n", heard, weights, seen)
    any_event = torch.einsum("nea,nav,nfv->n", heard, weights, seen)
    even_own = torch.einsum("nea,nev->n", heard, seen)
    even_any = torch.einsum("nea,nfv->n", heard, seen)
    several = f.present.sum(1) > 1
    return [
        (own[several].sum() / any_event[several].sum()).item(),
        (even_own[several].sum() / even_any[several].sum()).item(),
    ]
