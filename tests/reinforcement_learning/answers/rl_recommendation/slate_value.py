"""Answers to 122.2a.slate-value."""

import torch


def wrong_undiscounted(scores, minutes, later, none, later_none, discount):
    return right_as_one_more_item(scores, minutes, later, none, later_none, 1.0)


def wrong_discounts_minutes(scores, minutes, later, none, later_none, discount):
    return right_as_one_more_item(scores, discount * minutes, later, none, later_none, discount)


def wrong_mean(scores, minutes, later, none, later_none, discount):
    return (minutes + discount * later).mean()


def wrong_sum(scores, minutes, later, none, later_none, discount):
    return (minutes + discount * later).sum()


def right_as_one_more_item(scores, minutes, later, none, later_none, discount):
    v = torch.cat([scores, torch.tensor([none], dtype=torch.float64)])
    r = torch.cat([minutes, torch.zeros(1, dtype=torch.float64)])
    after = torch.cat([later, torch.tensor([later_none], dtype=torch.float64)])
    return (v * (r + discount * after)).sum() / v.sum()
