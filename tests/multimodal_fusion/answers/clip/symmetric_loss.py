"""Answers to 121.2a.symmetric-loss."""

import math

import torch
import torch.nn.functional as F


def wrong_normalised_over_the_batch(images, texts, log_scale):
    return right_by_logsumexp(images.T, texts.T, log_scale)


def wrong_softmax_before_cross_entropy(images, texts, log_scale):
    x, y = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    s = (log_scale.exp().clamp(max=100) * x @ y.T).softmax(1)
    right = torch.arange(len(x))
    return (F.cross_entropy(s, right) + F.cross_entropy(s.T, right)) / 2


def wrong_same_direction_twice(images, texts, log_scale):
    x, y = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    s = log_scale.exp().clamp(max=100) * x @ y.T
    right = torch.arange(len(x))
    return (F.cross_entropy(s, right) + F.cross_entropy(s, right)) / 2


def wrong_limit_on_the_logarithm(images, texts, log_scale):
    return right_by_logsumexp(images, texts, log_scale.clamp(max=100.0), limit=False)


def wrong_detached_scale(images, texts, log_scale):
    return right_by_logsumexp(images, texts, log_scale.detach())


def wrong_no_gradient(images, texts, log_scale):
    with torch.no_grad():
        return right_by_logsumexp(images, texts, log_scale)


def wrong_sum_over_the_batch(images, texts, log_scale):
    return len(images) * right_by_logsumexp(images, texts, log_scale)


def right_by_logsumexp(images, texts, log_scale, limit=True):
    x = images / images.norm(dim=1, keepdim=True)
    y = texts / texts.norm(dim=1, keepdim=True)
    scale = torch.exp(log_scale)
    if limit:
        scale = torch.clamp(scale, max=100)
    s = scale * x @ y.T
    both = torch.logsumexp(s, 0) + torch.logsumexp(s, 1)
    return (both / 2 - s.diagonal()).mean()


def right_by_log_softmax(images, texts, log_scale):
    x, y = F.normalize(images), F.normalize(texts)
    s = torch.minimum(log_scale.exp(), torch.tensor(100.0, dtype=x.dtype)) * (y @ x.T)
    return -(s.log_softmax(0).diagonal() + s.log_softmax(1).diagonal()).mean() / 2


def wrong_scale_not_below_one(images, texts, log_scale):
    """open_clip's limits, 1 and 100; the statement has the upper one alone."""
    x, y = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    logits = log_scale.clamp(0, math.log(100)).exp() * x @ y.T
    right = torch.arange(len(x))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def right_limit_of_the_logarithm(images, texts, log_scale):
    scale = log_scale.clamp(max=math.log(100)).exp()
    logits = scale * F.cosine_similarity(images[:, None], texts[None], dim=2)
    both = logits.logsumexp(0) + logits.logsumexp(1) - 2 * logits.diagonal()
    return both.mean() / 2
