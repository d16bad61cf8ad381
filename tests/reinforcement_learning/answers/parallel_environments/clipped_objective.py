"""Answers to 122.1c.clipped-objective."""

import torch


def wrong_ratio_of_logarithms(log_prob, old_log_prob, advantage, clip):
    ratio = log_prob / old_log_prob
    return torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def wrong_probabilities_divided(log_prob, old_log_prob, advantage, clip):
    ratio = log_prob.exp() / old_log_prob.exp()
    return torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def wrong_clipped_in_logarithms(log_prob, old_log_prob, advantage, clip):
    d = log_prob - old_log_prob
    return torch.min(d.exp() * advantage, d.clamp(-clip, clip).exp() * advantage).mean()


def wrong_no_gradient(log_prob, old_log_prob, advantage, clip):
    with torch.no_grad():
        return right_by_cases(log_prob, old_log_prob, advantage, clip)


def wrong_mean_before_the_minimum(log_prob, old_log_prob, advantage, clip):
    ratio = (log_prob - old_log_prob).exp()
    a = (ratio * advantage).mean()
    return torch.min(a, (ratio.clamp(1 - clip, 1 + clip) * advantage).mean())


def right_by_cases(log_prob, old_log_prob, advantage, clip):
    ratio = torch.exp(log_prob - old_log_prob)
    bound = torch.where(advantage >= 0, ratio.clamp(max=1 + clip), ratio.clamp(min=1 - clip))
    return (bound * advantage).mean()


def right_as_a_negative_maximum(log_prob, old_log_prob, advantage, clip):
    ratio = (log_prob - old_log_prob).exp()
    one = -advantage * ratio
    two = -advantage * torch.clamp(ratio, 1 - clip, 1 + clip)
    return -torch.max(one, two).mean()
