"""Answers to 119.2.coupled-decay."""

import torch


def sign_of_its_own(x):
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def wrong_no_zero_in_the_sign(p, g, lr, weight_decay):
    coupled = -lr * (sign_of_its_own(g + weight_decay * p) - sign_of_its_own(g))
    return coupled, -lr * weight_decay * p


def wrong_sign_by_division(p, g, lr, weight_decay):
    whole = g + weight_decay * p
    return -lr * (whole / whole.abs() - g / g.abs()), -lr * weight_decay * p


def wrong_decay_with_a_plus(p, g, lr, weight_decay):
    return lr * (torch.sign(g) - torch.sign(g + weight_decay * p)), lr * weight_decay * p


def wrong_step_without_decay_added(p, g, lr, weight_decay):
    without = -lr * torch.sign(g)
    return (
        -lr * torch.sign(g + weight_decay * p) + without,
        -lr * (torch.sign(g) + weight_decay * p) + without,
    )


def wrong_coupled_is_all_or_nothing(p, g, lr, weight_decay):
    turned = torch.sign(g + weight_decay * p) != torch.sign(g)
    return -2 * lr * torch.sign(p) * turned, -lr * weight_decay * p


def wrong_decay_not_in_proportion(p, g, lr, weight_decay):
    return right_case_by_case(p, g, lr, weight_decay)[0], -lr * weight_decay * torch.sign(p)


def wrong_in_place(p, g, lr, weight_decay):
    coupled, decoupled = right_case_by_case(p, g, lr, weight_decay)
    p.mul_(1 - lr * weight_decay)
    return coupled, decoupled


def wrong_vectors_alone(p, g, lr, weight_decay):
    coupled = [
        -lr * ((a > 0) - (a < 0) - (b > 0) + (b < 0))
        for a, b in zip((g + weight_decay * p).tolist(), g.tolist(), strict=True)
    ]
    return torch.tensor(coupled, dtype=p.dtype), -lr * weight_decay * p


def wrong_numpy(p, g, lr, weight_decay):
    return tuple(part.numpy() for part in right_case_by_case(p, g, lr, weight_decay))


def right_case_by_case(p, g, lr, weight_decay):
    before, after = g.sign(), (g + weight_decay * p).sign()
    return lr * (before - after), (-lr * weight_decay) * p


def right_as_a_list(p, g, lr, weight_decay):
    coupled = [
        -lr * ((a > 0) - (a < 0) - (b > 0) + (b < 0))
        for a, b in zip(
            (g + weight_decay * p).flatten().tolist(), g.flatten().tolist(), strict=True
        )
    ]
    return [torch.tensor(coupled, dtype=p.dtype).view_as(p), p.mul(lr * weight_decay).neg()]
