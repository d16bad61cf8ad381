"""Answers to 121.2a.sigmoid-loss."""

import torch
import torch.nn.functional as F


def wrong_sign_of_the_bias(x, y, scale, bias):
    return right_by_cross_entropy(x, y, scale, -bias)


def wrong_labels_turned_round(x, y, scale, bias):
    z = 1 - 2 * torch.eye(len(x), dtype=x.dtype)
    return -F.logsigmoid(z * (scale * x @ y.T + bias)).sum() / len(x)


def wrong_bias_on_wrong_pairs_alone(x, y, scale, bias):
    eye = torch.eye(len(x), dtype=x.dtype)
    return -F.logsigmoid((2 * eye - 1) * (scale * x @ y.T + bias * (1 - eye))).sum() / len(x)


def wrong_log_of_a_sigmoid(x, y, scale, bias):
    z = 2 * torch.eye(len(x), dtype=x.dtype) - 1
    return -torch.log(torch.sigmoid(z * (scale * x @ y.T + bias))).sum() / len(x)


def wrong_log_of_a_sigmoid_with_epsilon(x, y, scale, bias):
    z = 2 * torch.eye(len(x), dtype=x.dtype) - 1
    return -torch.log(torch.sigmoid(z * (scale * x @ y.T + bias)) + 1e-6).sum() / len(x)


def wrong_sum(x, y, scale, bias):
    return len(x) * right_by_cross_entropy(x, y, scale, bias)


def wrong_divided_by_the_width(x, y, scale, bias):
    return right_by_cross_entropy(x, y, scale, bias) * len(x) / x.shape[1]


def right_by_cross_entropy(x, y, scale, bias):
    logits = scale * x @ y.T + bias
    target = torch.eye(len(x), dtype=x.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(x)


def right_by_softplus(x, y, scale, bias):
    logits = (y @ x.T).T * scale + bias
    return (F.softplus(logits).sum() - logits.diagonal().sum()) / x.shape[0]
