"""Answers to 119.2.lion."""

import torch


def wrong_sign_of_zero_is_one(p, g, m, lr, beta1, beta2, weight_decay):
    c = beta1 * m + (1 - beta1) * g
    u = torch.where(c >= 0, 1.0, -1.0).to(p.dtype)
    return p - lr * (u + weight_decay * p), beta2 * m + (1 - beta2) * g


def wrong_sign_by_division(p, g, m, lr, beta1, beta2, weight_decay):
    c = beta1 * m + (1 - beta1) * g
    return p - lr * (c / c.abs() + weight_decay * p), beta2 * m + (1 - beta2) * g


def wrong_smooth_sign(p, g, m, lr, beta1, beta2, weight_decay):
    u = torch.tanh(1e6 * (beta1 * m + (1 - beta1) * g))
    return p - lr * (u + weight_decay * p), beta2 * m + (1 - beta2) * g


def wrong_momentum_begins_with_the_gradient(p, g, m, lr, beta1, beta2, weight_decay):
    m = m if m.any() else g
    return right_by_lerp(p, g, m, lr, beta1, beta2, weight_decay)


def wrong_decay_of_the_new_weights(p, g, m, lr, beta1, beta2, weight_decay):
    moved = p - lr * torch.sign(beta1 * m + (1 - beta1) * g)
    return moved - lr * weight_decay * moved, beta2 * m + (1 - beta2) * g


def wrong_uphill(p, g, m, lr, beta1, beta2, weight_decay):
    u = torch.sign(beta1 * m + (1 - beta1) * g)
    return p + lr * (u + weight_decay * p), beta2 * m + (1 - beta2) * g


def wrong_decay_grows(p, g, m, lr, beta1, beta2, weight_decay):
    u = torch.sign(beta1 * m + (1 - beta1) * g)
    return p - lr * (u - weight_decay * p), beta2 * m + (1 - beta2) * g


def wrong_weights_of_the_averages_swapped(p, g, m, lr, beta1, beta2, weight_decay):
    u = torch.sign((1 - beta1) * m + beta1 * g)
    return p - lr * (u + weight_decay * p), (1 - beta2) * m + beta2 * g


def wrong_sign_of_the_whole(p, g, m, lr, beta1, beta2, weight_decay):
    u = torch.sign(beta1 * m + (1 - beta1) * g + weight_decay * p)
    return p - lr * u, beta2 * m + (1 - beta2) * g


def wrong_momentum_alone_is_returned(p, g, m, lr, beta1, beta2, weight_decay):
    return right_by_lerp(p, g, m, lr, beta1, beta2, weight_decay)[1]


def wrong_order_of_the_results(p, g, m, lr, beta1, beta2, weight_decay):
    return right_by_lerp(p, g, m, lr, beta1, beta2, weight_decay)[::-1]


def wrong_same_tensor_when_the_rate_is_0(p, g, m, lr, beta1, beta2, weight_decay):
    if lr == 0:
        return p, m.lerp(g, 1 - beta2)
    return right_by_lerp(p, g, m, lr, beta1, beta2, weight_decay)


def wrong_float32(p, g, m, lr, beta1, beta2, weight_decay):
    return tuple(x.float() for x in right_by_lerp(p, g, m, lr, beta1, beta2, weight_decay))


def right_by_lerp(p, g, m, lr, beta1, beta2, weight_decay):
    return p * (1 - lr * weight_decay) - lr * m.lerp(g, 1 - beta1).sign(), m.lerp(g, 1 - beta2)


def right_by_comparing(p, g, m, lr, beta1, beta2, weight_decay):
    p, m = p.clone(), m.clone()
    c = m * beta1 + g - g * beta1
    p -= lr * weight_decay * p
    p[c > 0] -= lr
    p[c < 0] += lr
    m.mul_(beta2).add_(g, alpha=1 - beta2)
    return p, m
