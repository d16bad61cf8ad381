"""Answers to 120.1b.koleo."""

import torch
import torch.nn.functional as F


def wrong_diagonal_of_one(x):
    x = F.normalize(x)
    distance = torch.cdist(x, x) + torch.eye(len(x), dtype=x.dtype)
    return -distance.min(1).values.log().mean()


def wrong_farthest(x):
    x = F.normalize(x)
    return -torch.cdist(x, x).max(1).values.log().mean()


def wrong_nearest_of_all(x):
    x = F.normalize(x)
    return -torch.pdist(x).min().log()


def wrong_normalised_along_the_batch(x):
    return cosines_of(F.normalize(x, dim=0))


def wrong_squared_distance(x):
    return 2 * right_by_pairs(x)


def wrong_sum(x):
    return len(x) * right_by_pairs(x)


def wrong_each_pair_once(x):
    x = F.normalize(x)
    distance = torch.cdist(x, x) + torch.full((len(x), len(x)), torch.inf, dtype=x.dtype).tril()
    return -distance.min(1).values[:-1].log().mean()


def wrong_room_at_zero(x):
    x = F.normalize(x)
    distance = torch.cdist(x, x) + torch.diag(torch.full((len(x),), torch.inf, dtype=x.dtype))
    return -(distance.min(1).values + 1e-3).log().mean()


def wrong_trains_on_a_copy(x):
    return right_by_pairs(x.clone().detach())


def wrong_neighbour_does_not_move(x):
    """The value is right; the push acts on one of the two features only."""
    x = F.normalize(x)
    distance = torch.cdist(x, x.detach())
    distance = distance + torch.diag(torch.full((len(x),), torch.inf, dtype=x.dtype))
    return -distance.min(1).values.log().mean()


def wrong_a_number(x):
    return right_by_pairs(x).item()


def wrong_base_ten(x):
    return right_by_pairs(x) / torch.log(torch.tensor(10.0, dtype=x.dtype))


def right_by_cosines(x):
    return cosines_of(F.normalize(x, dim=1))


def cosines_of(u):
    cosines = (u @ u.T).masked_fill(torch.eye(len(u), dtype=torch.bool), -torch.inf)
    return -0.5 * (2 - 2 * cosines.max(1).values).log().mean()


def right_by_pairs(x):
    u = x / x.square().sum(1, keepdim=True).sqrt()
    nearest = [
        torch.stack([(a - b).norm() for j, b in enumerate(u) if j != i]).min()
        for i, a in enumerate(u)
    ]
    return -torch.stack(nearest).log().mean()
