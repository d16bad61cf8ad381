"""Answers to 124.1a.heat-map."""

import torch


def wrong_weights_from_the_whole_batch(activations, gradients):
    alpha = gradients.mean((0, 2, 3)).view(1, -1, 1, 1)
    return torch.relu((alpha * activations).sum(1))


def wrong_positive_gradients_only(activations, gradients):
    alpha = gradients.clamp(min=0).mean((2, 3), keepdim=True)
    return torch.relu((alpha * activations).sum(1))


def wrong_scaled_to_one(activations, gradients):
    heat = torch.relu((gradients.mean((2, 3), keepdim=True) * activations).sum(1))
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-9)


def wrong_absolute(activations, gradients):
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1).abs()


def wrong_keeps_the_maps_axis(activations, gradients):
    alpha = gradients.mean((2, 3), keepdim=True)
    return torch.relu((alpha * activations).sum(1, keepdim=True))


def right_by_einsum(activations, gradients):
    alpha = gradients.flatten(2).mean(2)
    return torch.einsum("nk,nkhw->nhw", alpha, activations).clamp(min=0)


def right_in_a_loop(activations, gradients):
    heat = []
    for a, g in zip(activations, gradients):
        total = sum(g[k].mean() * a[k] for k in range(len(a)))
        heat.append(torch.where(total > 0, total, torch.zeros_like(total)))
    return torch.stack(heat)
