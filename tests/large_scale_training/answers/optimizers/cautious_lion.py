"""Answers to 119.2.cautious-lion."""

import torch


def step(p, g, m, lr, beta1, beta2, weight_decay, keep):
    u = torch.sign(beta1 * m + (1 - beta1) * g)
    p_new = p - lr * (keep(u, g) + weight_decay * p)
    return p_new, beta2 * m + (1 - beta2) * g


def wrong_zeros_agree(*args):
    def keep(u, g):
        mask = (u * g >= 0).to(u.dtype)
        return u * mask / mask.mean().clamp(min=1e-3)

    return step(*args, keep)


def wrong_one_more_in_the_sum(*args):
    """The paper's own code: numel / (sum + 1)."""

    def keep(u, g):
        mask = (u * g > 0).to(u.dtype)
        return u * mask * mask.numel() / (mask.sum() + 1)

    return step(*args, keep)


def wrong_bound_of_one(*args):
    def keep(u, g):
        mask = (u * g > 0).to(u.dtype)
        return u * mask / mask.mean().clamp(min=1)

    return step(*args, keep)


def wrong_bound_of_a_hundredth(*args):
    def keep(u, g):
        mask = (u * g > 0).to(u.dtype)
        return u * mask / mask.mean().clamp(min=1e-2)

    return step(*args, keep)


def wrong_small_number_added(*args):
    def keep(u, g):
        mask = (u * g > 0).to(u.dtype)
        return u * mask / (mask.mean() + 1e-8)

    return step(*args, keep)


def wrong_bounded_only_where_none_agrees(*args):
    def keep(u, g):
        mask = (u * g > 0).to(u.dtype)
        return u * mask / (mask.mean() if mask.any() else 1e-3)

    return step(*args, keep)


def wrong_mean_by_rows(*args):
    def keep(u, g):
        mask = (u * g > 0).to(u.dtype)
        return u * mask / mask.mean(-1, keepdim=True).clamp(min=1e-3)

    return step(*args, keep)


def wrong_multiplied_by_the_mean(*args):
    def keep(u, g):
        mask = (u * g > 0).to(u.dtype)
        return u * mask * mask.mean()

    return step(*args, keep)


def wrong_step_lost_where_none_agrees(p, g, m, lr, beta1, beta2, weight_decay):
    mask = (torch.sign(beta1 * m + (1 - beta1) * g) * g > 0).to(p.dtype)
    if not mask.any():
        return p.clone(), beta2 * m + (1 - beta2) * g
    return right_by_where(p, g, m, lr, beta1, beta2, weight_decay)


def wrong_sign_by_division(p, g, m, lr, beta1, beta2, weight_decay):
    c = beta1 * m + (1 - beta1) * g
    u = c / c.abs()
    mask = (u * g > 0).to(p.dtype)
    u = u * mask / mask.mean().clamp(min=1e-3)
    return p - lr * (u + weight_decay * p), beta2 * m + (1 - beta2) * g


def wrong_momentum_from_masked(p, g, m, lr, beta1, beta2, weight_decay):
    p_new, _ = right_by_where(p, g, m, lr, beta1, beta2, weight_decay)
    mask = torch.sign(beta1 * m + (1 - beta1) * g) * g > 0
    return p_new, beta2 * m + (1 - beta2) * g * mask


def right_by_where(p, g, m, lr, beta1, beta2, weight_decay):
    u = m.lerp(g, 1 - beta1).sign()
    agree = (u == g.sign()) & (u != 0)
    share = max(agree.sum().item() / agree.numel(), 1e-3)
    step = torch.where(agree, u / share, torch.zeros_like(u))
    return p * (1 - lr * weight_decay) - lr * step, m.lerp(g, 1 - beta2)


def right_number_by_number(p, g, m, lr, beta1, beta2, weight_decay):
    c = (beta1 * m + (1 - beta1) * g).flatten().tolist()
    u = [(x > 0) - (x < 0) for x in c]
    agree = [a * b > 0 for a, b in zip(u, g.flatten().tolist(), strict=True)]
    share = max(sum(agree) / len(agree), 0.001)
    moved = torch.tensor([a * ok / share for a, ok in zip(u, agree, strict=True)], dtype=p.dtype)
    return p - lr * moved.view_as(p) - lr * weight_decay * p, beta2 * m + g - beta2 * g
