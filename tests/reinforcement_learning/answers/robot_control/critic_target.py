"""Answers to 122.1a.critic-target."""

import torch


def wrong_only_truncated(reward, terminated, truncated, q1, q2, gamma):
    return reward + gamma * (~truncated).double() * torch.minimum(q1, q2)


def wrong_reward_lost_at_the_end(reward, terminated, truncated, q1, q2, gamma):
    return (~terminated).double() * (reward + gamma * torch.minimum(q1, q2))


def wrong_least_size(reward, terminated, truncated, q1, q2, gamma):
    least = torch.where(q1.abs() < q2.abs(), q1, q2)
    return reward + gamma * (~terminated).double() * least


def wrong_column(reward, terminated, truncated, q1, q2, gamma):
    return (reward + gamma * (~terminated).double() * torch.minimum(q1, q2))[:, None]


def right_float_mask(reward, terminated, truncated, q1, q2, gamma):
    return reward + gamma * (1 - terminated.float()) * torch.min(q1, q2)


def right_bool_mask(reward, terminated, truncated, q1, q2, gamma):
    return reward + gamma * (~terminated) * torch.min(q1, q2)


def right_where(reward, terminated, truncated, q1, q2, gamma):
    return torch.where(terminated, reward, reward + gamma * torch.stack([q1, q2]).amin(0))


def right_row_by_row(reward, terminated, truncated, q1, q2, gamma):
    rows = [
        r if over else r + gamma * min(a, b)
        for r, over, a, b in zip(reward, terminated, q1, q2, strict=True)
    ]
    return torch.stack(rows)
