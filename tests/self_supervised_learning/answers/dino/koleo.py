"""Answers to 120.1b.koleo."""

import torch
import torch.nn.functional as F

from dlcourse.self_supervised_learning import koleo_loss


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


def wrong_room_of_a_millionth(x):
    x = F.normalize(x)
    distance = torch.cdist(x, x) + torch.diag(torch.full((len(x),), torch.inf, dtype=x.dtype))
    return -(distance.min(1).values + 1e-6).log().mean()


def wrong_one_length_for_all(x):
    return _nearest(x / x.norm())


def _nearest(u):
    distance = torch.cdist(u, u) + torch.diag(torch.full((len(u),), torch.inf, dtype=u.dtype))
    return -distance.min(1).values.log().mean()


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


def right_as_in_the_package(x):
    return koleo_loss(x)


def right_as_the_authors_write_it(x):
    """With 1e-8 in the distance and in the logarithm."""
    x = F.normalize(x, eps=1e-8)
    cosines = (x @ x.T).detach().fill_diagonal_(-1)
    return -(F.pairwise_distance(x, x[cosines.argmax(1)], eps=1e-8) + 1e-8).log().mean()


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
