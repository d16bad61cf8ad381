"""Answers to 121.1b.ranked-precision."""

import sklearn.metrics
import torch


def wrong_strictly_above(scores, targets):
    positives = torch.nonzero(targets).flatten()
    shares = [targets[scores > scores[k]].sum() + 1 for k in positives]
    counts = [(scores > scores[k]).sum() + 1 for k in positives]
    return sum(s / c for s, c in zip(shares, counts)).double() / len(positives)


def wrong_precision_of_top_k(scores, targets):
    k = int(targets.sum())
    return targets[scores.argsort(descending=True)[:k]].mean()


def wrong_best_case_of_ties(scores, targets):
    order = (scores + 1e-9 * targets).argsort(descending=True)
    hit = targets[order]
    rank = torch.arange(1, len(hit) + 1, dtype=torch.float64)
    return (hit * hit.cumsum(0) / rank).sum() / hit.sum()


def wrong_reciprocal_rank(scores, targets):
    k = scores[targets > 0].max()
    return 1 / (scores >= k).sum().double()


def wrong_float32(scores, targets):
    return right_by_scikit_learn(scores, targets).float()


def right_by_scikit_learn(scores, targets):
    value = sklearn.metrics.average_precision_score(targets.numpy(), scores.numpy())
    return torch.tensor(value, dtype=torch.float64)


def right_by_a_matrix(scores, targets):
    above = (scores[None] >= scores[:, None]).double()
    precision = above @ targets / above.sum(1)
    return precision[targets > 0].mean()
