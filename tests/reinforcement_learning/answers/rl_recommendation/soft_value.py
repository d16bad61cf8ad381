"""Answers to 122.2a.soft-value."""

import torch


def wrong_mean_over_items(logits, q, allowed, temperature):
    return right_user_by_user(logits, q, allowed, temperature) / logits.shape[1]


def wrong_zero_logit(logits, q, allowed, temperature):
    log_pi = (logits * allowed).log_softmax(-1)
    return (log_pi.exp() * (q - temperature * log_pi)).sum(-1)


def wrong_nan(logits, q, allowed, temperature):
    log_pi = logits.masked_fill(~allowed, -torch.inf).log_softmax(-1)
    return (log_pi.exp() * (q - temperature * log_pi)).sum(-1)


def wrong_one_number(logits, q, allowed, temperature):
    return right_user_by_user(logits, q, allowed, temperature).mean()


def wrong_hidden_by_minus_50(logits, q, allowed, temperature):
    log_pi = logits.masked_fill(~allowed, -50.0).log_softmax(-1)
    return (log_pi.exp() * (q - temperature * log_pi) * allowed).sum(-1)


def wrong_hidden_by_minus_1000(logits, q, allowed, temperature):
    log_pi = logits.masked_fill(~allowed, -1000.0).log_softmax(-1)
    return (log_pi.exp() * (q - temperature * log_pi)).sum(-1)


def right_user_by_user(logits, q, allowed, temperature):
    found = []
    for x, value, may in zip(logits, q, allowed, strict=True):
        log_pi = torch.log_softmax(x[may], 0)
        found.append((log_pi.exp() * (value[may] - temperature * log_pi)).sum())
    return torch.stack(found)
