"""Answers to 119.1c.clip-unscaled."""

import math

import torch


def true(grads, scale):
    return [g / scale for g in grads]


def wrong_norms_summed(grads, scale, max_norm):
    grads = true(grads, scale)
    norm = sum(float(g.norm()) for g in grads)
    return [g * min(1.0, max_norm / norm if norm else 1.0) for g in grads], norm


def wrong_no_root(grads, scale, max_norm):
    grads = true(grads, scale)
    norm = float(sum(g.square().sum() for g in grads))
    return [g * min(1.0, max_norm / (norm or 1.0)) for g in grads], norm


def wrong_divides_by_a_norm_of_zero(grads, scale, max_norm):
    grads = true(grads, scale)
    norm = torch.cat([g.flatten() for g in grads]).norm()
    factor = torch.clamp(max_norm / norm, max=1.0)
    return [g * (max_norm / norm) if norm == 0 else g * factor for g in grads], float(norm)


def wrong_writes_into_the_gradients(grads, scale, max_norm):
    for g in grads:
        g.div_(scale)
    norm = math.sqrt(sum(float(g.square().sum()) for g in grads))
    return [g * (max_norm / norm if norm > max_norm else 1.0) for g in grads], norm


def wrong_norm_as_a_tensor(grads, scale, max_norm):
    clipped, norm = right_by_pytorch(grads, scale, max_norm)
    return clipped, torch.tensor(norm)


def wrong_norm_still_scaled(grads, scale, max_norm):
    clipped, norm = right_by_pytorch(grads, scale, max_norm)
    return clipped, norm * scale


def wrong_scaled_bound(grads, scale, max_norm):
    return right_by_pytorch(grads, scale, max_norm * scale)


def wrong_in_one_vector(grads, scale, max_norm):
    clipped, norm = right_by_pytorch(grads, scale, max_norm)
    return torch.cat([g.flatten() for g in clipped]), norm


def wrong_half_precision(grads, scale, max_norm):
    clipped, norm = right_by_pytorch(grads, scale, max_norm)
    return [g.half() for g in clipped], norm


def wrong_clips_at_one(grads, scale, max_norm):
    return right_by_pytorch(grads, scale, 1.0)


def right_by_pytorch(grads, scale, max_norm):
    parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in grads]
    for parameter, g in zip(parameters, grads, strict=True):
        parameter.grad = g / scale
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return [p.grad for p in parameters], norm.item()


def right_written_out(grads, scale, max_norm):
    squares = 0.0
    for g in grads:
        squares += float((g / scale).pow(2).sum())
    norm = squares**0.5
    if norm <= max_norm:
        return true(grads, scale), norm
    return [g / scale / norm * max_norm for g in grads], norm
