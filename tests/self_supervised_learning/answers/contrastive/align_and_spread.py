"""Answers to 120.1a.align-and-spread."""

import torch
import torch.nn.functional as F


def wrong_both_views_spread(z1, z2):
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    return right_by_pdist(z1, z2)[0], torch.pdist(z).square().mul(-2).exp().mean().log()


def wrong_second_views_spread(z1, z2):
    return right_by_pdist(z1, z2)[0], right_by_pdist(z2, z1)[1]


def wrong_normalised_along_the_batch(z1, z2):
    u1, u2 = F.normalize(z1, dim=0), F.normalize(z2, dim=0)
    return (u1 - u2).square().sum(1).mean(), torch.pdist(u1).square().mul(-2).exp().mean().log()


def wrong_mean_over_the_features_too(z1, z2):
    u1, u2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    return (u1 - u2).square().mean(), right_by_pdist(z1, z2)[1]


def wrong_sum_over_images(z1, z2):
    alignment, uniformity = right_by_pdist(z1, z2)
    return alignment * len(z1), uniformity


def wrong_sum_over_pairs(z1, z2):
    u1 = F.normalize(z1, dim=1)
    return right_by_pdist(z1, z2)[0], torch.pdist(u1).square().mul(-2).exp().sum().log()


def wrong_cannot_train(z1, z2):
    alignment, uniformity = right_by_pdist(z1, z2)
    return alignment.detach(), uniformity


def wrong_second_view_detached(z1, z2):
    return right_by_pdist(z1, z2.detach())


def wrong_without_gradients(z1, z2):
    with torch.no_grad():
        return right_by_pdist(z1, z2)


def wrong_python_numbers(z1, z2):
    return tuple(x.item() for x in right_by_pdist(z1, z2))


def wrong_through_numpy(z1, z2):
    import numpy as np

    u1 = z1.numpy() / np.linalg.norm(z1.numpy(), axis=1, keepdims=True)
    u2 = z2.numpy() / np.linalg.norm(z2.numpy(), axis=1, keepdims=True)
    i, j = np.triu_indices(len(u1), 1)
    uniformity = np.log(np.exp(-2 * ((u1[i] - u1[j]) ** 2).sum(1)).mean())
    return torch.tensor(((u1 - u2) ** 2).sum(1).mean()), torch.tensor(uniformity)


def wrong_lengths_detached(z1, z2):
    u1, u2 = z1 / z1.norm(dim=1, keepdim=True).detach(), z2 / z2.norm(dim=1, keepdim=True).detach()
    return (u1 - u2).square().sum(1).mean(), torch.pdist(u1).square().mul(-2).exp().mean().log()


def wrong_neighbouring_rows(z1, z2):
    u1 = F.normalize(z1, dim=1)
    spread = (u1 - u1.roll(1, 0)).square().sum(1)
    return right_by_pdist(z1, z2)[0], spread.mul(-2).exp().mean().log()


def wrong_base_two(z1, z2):
    alignment, uniformity = right_by_pdist(z1, z2)
    return alignment, uniformity / torch.log(torch.tensor(2.0))


def wrong_order(z1, z2):
    return right_by_pdist(z1, z2)[::-1]


def wrong_a_dict(z1, z2):
    return dict(zip(("alignment", "uniformity"), right_by_pdist(z1, z2), strict=True))


def wrong_normalises_in_place(z1, z2):
    z1 /= z1.norm(dim=1, keepdim=True)
    z2 /= z2.norm(dim=1, keepdim=True)
    return (z1 - z2).square().sum(1).mean(), torch.pdist(z1).square().mul(-2).exp().mean().log()


def right_by_pdist(z1, z2):
    u1, u2 = F.normalize(z1), F.normalize(z2)
    return (u1 - u2).norm(dim=1).square().mean(), torch.pdist(u1).pow(2).mul(-2).exp().mean().log()


def right_by_cosines(z1, z2):
    u1 = z1 / z1.norm(dim=1, keepdim=True)
    u2 = z2 / z2.norm(dim=1, keepdim=True)
    cosines = u1 @ u1.T
    pairs = [cosines[i, j] for i in range(len(u1)) for j in range(i)]
    spread = torch.stack([torch.exp(4 * c - 4) for c in pairs])
    return 2 - 2 * (u1 * u2).sum(1).mean(), spread.mean().log()
