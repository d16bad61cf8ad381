"""What can be known of the pairs in ``event_clips`` without knowing when things happen.

Three ceilings for a classifier that recognises every sound and picture but does not bind them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlcourse.datasets.sounding_pictures import MAX_EVENTS, PICTURES, SOUNDS, EventFactors


def counts(factors: EventFactors) -> tuple[Tensor, Tensor, Tensor]:
    """How often each sound and each picture occurs, ``(N, 4)`` twice, and events, ``(N,)``."""
    there = factors.present[..., None]
    sounds = torch.nn.functional.one_hot(factors.sound, len(SOUNDS)) * there
    pictures = torch.nn.functional.one_hot(factors.picture, len(PICTURES)) * there
    return sounds.sum(1), pictures.sum(1), factors.present.sum(1)


def from_sounds(factors: EventFactors) -> Tensor:
    """Probability of each pair, ``(N, 16)``, given the sounds: 1 − (3/4)^(times it was heard)."""
    heard, _, _ = counts(factors)
    probability = 1 - (1 - 1 / len(PICTURES)) ** heard.float()  # (N, 4)
    return probability.repeat_interleave(len(PICTURES), 1)


def from_pictures(factors: EventFactors) -> Tensor:
    """Probability of each pair, ``(N, 16)``, given the pictures: 1 − (3/4)^(times it was seen)."""
    _, seen, _ = counts(factors)
    probability = 1 - (1 - 1 / len(SOUNDS)) ** seen.float()
    return probability.repeat(1, len(SOUNDS))


def without_times(factors: EventFactors) -> Tensor:
    """Probability of each pair, ``(N, 16)``, given sounds and pictures, but no order.

    All ways to match n sounds with n pictures are equally likely. A sound heard a times and a
    picture seen b times miss each other with probability C(n − b, a) / C(n, a).
    """
    heard, seen, n = counts(factors)
    binomial = torch.zeros(MAX_EVENTS + 1, MAX_EVENTS + 1, device=n.device)
    for row in range(MAX_EVENTS + 1):
        binomial[row, 0] = 1
        for column in range(1, row + 1):
            binomial[row, column] = binomial[row - 1, column - 1] + binomial[row - 1, column]
    n, a, b = n[:, None, None], heard[:, :, None], seen[:, None, :]
    return (1 - binomial[n - b, a] / binomial[n, a]).flatten(1)


def binding_accuracy(logits: Tensor, factors: EventFactors) -> float:
    """How often the true pairs of two events beat the exchanged ones; guessing gives 0.5.

    Over clips with exactly two events that differ in sound and in picture: true pairs (s, p) and
    (s', p'), exchanged (s, p') and (s', p). Ties count half. NaN where there is no such clip.
    """
    s, p = factors.sound, factors.picture
    chosen = (factors.present.sum(1) == 2) & (s[:, 0] != s[:, 1]) & (p[:, 0] != p[:, 1])
    x, s, p = logits[chosen].unflatten(1, (len(SOUNDS), len(PICTURES))), s[chosen], p[chosen]
    row = torch.arange(len(x), device=x.device)
    true = x[row, s[:, 0], p[:, 0]] + x[row, s[:, 1], p[:, 1]]
    exchanged = x[row, s[:, 0], p[:, 1]] + x[row, s[:, 1], p[:, 0]]
    return ((true > exchanged).double() + (true == exchanged).double() / 2).mean().item()
