"""The class of an image by a vote of its nearest neighbours among features.

Chapter: ``120_self_supervised_learning`` (every section).

Papers:
    Wu, Xiong, Yu, Lin (2018), *Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination* (the weighted vote).
    Caron et al. (2021), *Emerging Properties in Self-Supervised Vision Transformers* (the same
    vote with k = 20).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcourse.datasets import Split
from dlcourse.self_supervised_learning.evaluation._checks import check_splits

__all__ = ["knn", "knn_accuracy"]


@torch.no_grad()
def knn(train: Split, x: Tensor, *, k: int = 20, temperature: float = 0.07) -> Tensor:
    """The class of each row of features, by a weighted vote of its k nearest: (N, D) → (N,).

    Nearness is the cosine s_i of the angle between features; neighbour i votes for its class with
    weight exp(s_i / τ). Nothing is trained, and nothing is chosen.

    Args:
        train: features (M, D), with integer labels 0, 1, ….
        x: features (N, D) to be named.
        k: neighbours that vote, 1 … M.
        temperature: τ > 0; small: the nearest decide. Not below 0.02: where all neighbours have
            cosines under 1 − 100 τ their weights are 0 in float32, and class 0 is named.

    Raises ValueError for features that are not finite or not of one width, and for k or τ out of
    range.

    Source: Wu et al. (2018), section 3.4.
    """
    train, _ = check_splits(train, Split(x, torch.zeros(len(x), dtype=torch.long)))
    if not 1 <= k <= len(train.x):
        raise ValueError(f"k must be 1 … {len(train.x)}, the size of train: got {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    bank = F.normalize(train.x.float(), dim=1)
    classes = int(train.y.max()) + 1
    named = []
    for rows in x.split(1024):  # (1024, M) cosines at a time
        cosine = F.normalize(rows.float(), dim=1) @ bank.T
        nearest, index = cosine.topk(k, dim=1)
        # exp((s − 1) / τ): the common factor exp(1 / τ), which may overflow, changes no vote.
        weight = ((nearest - 1) / temperature).exp()
        votes = weight.new_zeros(len(rows), classes).scatter_add_(1, train.y[index], weight)
        named.append(votes.argmax(1))
    return torch.cat(named)


def knn_accuracy(train: Split, test: Split, *, k: int = 20, temperature: float = 0.07) -> float:
    """Share of ``test`` to which ``knn`` gives the right class.

    Arguments and errors are those of ``knn``; ``test`` has integer labels too.
    """
    train, test = check_splits(train, test)
    found = knn(train, test.x, k=k, temperature=temperature)
    return (found == test.y).double().mean().item()
