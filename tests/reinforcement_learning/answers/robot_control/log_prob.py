"""Answers to 122.1a.log-prob."""

import math

import torch
from torch.distributions import Normal, TanhTransform


def wrong_sum_over_the_batch(u, mean, log_std):
    transform = TanhTransform()
    whole = Normal(mean, log_std.exp()).log_prob(u) - transform.log_abs_det_jacobian(u, u.tanh())
    return whole.sum(0)


def wrong_variance_for_deviation(u, mean, log_std):
    return right_by_torch(u, mean, log_std / 2)


def wrong_clamped(u, mean, log_std):
    slope = torch.log((1 - torch.tanh(u) ** 2).clamp_min(1e-8))
    return (Normal(mean, log_std.exp()).log_prob(u) - slope).sum(1)


def wrong_detached(u, mean, log_std):
    return right_by_torch(u.detach(), mean, log_std)


def wrong_softplus_by_hand(u, mean, log_std):
    slope = 2 * (math.log(2) - u - torch.log(1 + torch.exp(-2 * u)))
    return (Normal(mean, log_std.exp()).log_prob(u) - slope).sum(1)


def wrong_log_of_cosh(u, mean, log_std):
    slope = -2 * torch.log(torch.cosh(u))
    return (Normal(mean, log_std.exp()).log_prob(u) - slope).sum(1)


def right_by_torch(u, mean, log_std):
    slope = TanhTransform().log_abs_det_jacobian(u, u.tanh())
    return (Normal(mean, log_std.exp()).log_prob(u) - slope).sum(1)


def right_by_logaddexp(u, mean, log_std):
    slope = math.log(4) - 2 * torch.logaddexp(u, -u)
    return (Normal(mean, log_std.exp()).log_prob(u) - slope).sum(-1)
