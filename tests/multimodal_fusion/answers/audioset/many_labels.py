"""Answers to 121.1b.many-labels."""

import torch
import torch.nn.functional as F


def wrong_naive(logits, targets, positive_weight):
    p = 1 / (1 + torch.exp(-logits))
    loss = -positive_weight * targets * torch.log(p) - (1 - targets) * torch.log(1 - p)
    return loss.mean()


def wrong_library_from_probabilities(logits, targets, positive_weight):
    loss = F.binary_cross_entropy(torch.sigmoid(logits), targets, reduction="none")
    return (loss * (1 + (positive_weight - 1) * targets)).mean()


def wrong_detached(logits, targets, positive_weight):
    return right_by_the_library(logits.detach(), targets, positive_weight)


def wrong_mean_of_positives(logits, targets, positive_weight):
    loss = F.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=positive_weight, reduction="sum"
    )
    return loss / targets.sum().clamp(min=1)


def wrong_rounded_targets(logits, targets, positive_weight):
    return right_by_the_library(logits, targets.round(), positive_weight)


def wrong_a_python_number(logits, targets, positive_weight):
    return right_by_the_library(logits, targets, positive_weight).item()


def right_by_the_library(logits, targets, positive_weight):
    return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=positive_weight)


def right_by_logsigmoid(logits, targets, positive_weight):
    yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
    return -(positive_weight * targets * yes + (1 - targets) * no).sum() / logits.numel()
