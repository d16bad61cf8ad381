"""Answers to 119.2.schedule-free-average."""

import torch


def wrong_average_of_averages(zs, lrs):
    x, xs = zs[0], []
    for t, z in enumerate(zs, start=1):
        x = x + (z - x) / t
        xs.append(x)
    return torch.stack(xs)


def wrong_sum_without_this_step(zs, lrs):
    x, total, xs = zs[0], lrs[0] ** 2, []
    for z, lr in zip(zs, lrs, strict=True):
        x = x + lr**2 / total * (z - x)
        total = total + lr**2
        xs.append(x)
    return torch.stack(xs)


def wrong_begins_at_zero_without_the_first(zs, lrs):
    return right_by_cumulative_sums(zs, lrs)[1:]


def wrong_with_x0(zs, lrs):
    return torch.cat([zs[:1], right_by_cumulative_sums(zs, lrs)])


def wrong_wrong_axis(zs, lrs):
    weights = (lrs**2)[:, None]
    return (weights * zs).cumsum(1) / weights.cumsum(0)


def wrong_rates_of_the_last_step(zs, lrs):
    c = lrs[-1] ** 2 / (lrs**2).cumsum(0)
    x, xs = torch.zeros_like(zs[0]), []
    for z, share in zip(zs, c, strict=True):
        x = (1 - share) * x + share * z
        xs.append(x)
    return torch.stack(xs)


def wrong_a_list(zs, lrs):
    return list(right_by_cumulative_sums(zs, lrs))


def wrong_in_place(zs, lrs):
    for t in range(1, len(zs)):
        zs[t] = (zs[t] * lrs[t] ** 2 + zs[t - 1] * (lrs[:t] ** 2).sum()) / (lrs[: t + 1] ** 2).sum()
    return zs


def right_by_cumulative_sums(zs, lrs):
    weights = lrs.square().unsqueeze(1)
    return torch.cumsum(weights * zs, 0) / torch.cumsum(weights, 0)


def right_by_a_triangle(zs, lrs):
    weights = torch.tril((lrs**2).repeat(len(lrs), 1))
    return (weights / weights.sum(1, keepdim=True)) @ zs
