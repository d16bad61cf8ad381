"""Answers to 120.1a.contrastive-loss."""

import torch
import torch.nn.functional as F

from dlcourse.self_supervised_learning import nt_xent


def logits_of(z1, z2, temperature):
    u = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = u @ u.T / temperature
    return logits.masked_fill(torch.eye(len(u), dtype=torch.bool), float("-inf"))


def wrong_normalised_along_the_batch(z1, z2, temperature):
    u = F.normalize(torch.cat([z1, z2]), dim=0)
    logits = u @ u.T / temperature
    logits = logits.masked_fill(torch.eye(len(u), dtype=torch.bool), float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(u)).roll(len(z1)))


def wrong_partner_is_the_next_row(z1, z2, temperature):
    logits = logits_of(z1, z2, temperature)
    return F.cross_entropy(logits, torch.arange(len(logits)) ^ 1)


def wrong_partner_left_out_of_the_sum(z1, z2, temperature):
    logits, n = logits_of(z1, z2, temperature), 2 * len(z1)
    rows, partner = torch.arange(n), torch.arange(n).roll(len(z1))
    positive = logits[rows, partner]
    rest = logits.clone()
    rest[rows, partner] = float("-inf")
    return (torch.logsumexp(rest, 1) - positive).mean()


def wrong_softmax_over_columns(z1, z2, temperature):
    logits, n = logits_of(z1, z2, temperature), 2 * len(z1)
    terms = -F.log_softmax(logits, dim=0)[torch.arange(n), torch.arange(n).roll(len(z1))]
    return terms[: len(z1)].sum() / len(z1)


def wrong_exponentials(z1, z2, temperature):
    logits, n = logits_of(z1, z2, temperature), 2 * len(z1)
    e = logits.exp()
    return -(e[torch.arange(n), torch.arange(n).roll(len(z1))] / e.sum(1)).log().mean()


def wrong_diagonal_at_minus_ten_thousand(z1, z2, temperature):
    """At the smallest temperature that is the logit of an opposite view."""
    logits = logits_of(z1, z2, temperature)
    logits = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -1e4)
    return F.cross_entropy(logits, torch.arange(len(logits)).roll(len(z1)))


def wrong_ten_thousand_taken_from_the_diagonal(z1, z2, temperature):
    u = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = u @ u.T / temperature - 1e4 * torch.eye(len(u), dtype=u.dtype)
    return F.cross_entropy(logits, torch.arange(len(u)).roll(len(z1)))


def wrong_partner_counted_by_the_width(z1, z2, temperature):
    logits = logits_of(z1, z2, temperature)
    n = len(logits)
    return F.cross_entropy(logits, (torch.arange(n) + z1.shape[1]) % n)


def wrong_lengths_detached(z1, z2, temperature):
    """The value is right; the gradient has a part along the views themselves."""
    z = torch.cat([z1, z2])
    u = z / z.norm(dim=1, keepdim=True).detach()
    logits = (u @ u.T / temperature).masked_fill(torch.eye(len(u), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(u)).roll(len(z1)))


def wrong_a_bit_of_epsilon(z1, z2, temperature):
    logits, n = logits_of(z1, z2, temperature), 2 * len(z1)
    share = F.softmax(logits, 1)[torch.arange(n), torch.arange(n).roll(len(z1))]
    return -(share + 1e-8).log().mean()


def wrong_sum(z1, z2, temperature):
    return right_by_cross_entropy(z1, z2, temperature) * len(z1)


def wrong_sign(z1, z2, temperature):
    return -right_by_cross_entropy(z1, z2, temperature)


def wrong_second_view_detached(z1, z2, temperature):
    return right_by_cross_entropy(z1, z2.detach(), temperature)


def wrong_detached(z1, z2, temperature):
    return right_by_cross_entropy(z1, z2, temperature).detach()


def wrong_made_anew(z1, z2, temperature):
    return torch.tensor(right_by_cross_entropy(z1, z2, temperature).item(), dtype=z1.dtype)


def wrong_a_number(z1, z2, temperature):
    return right_by_cross_entropy(z1, z2, temperature).item()


def wrong_a_vector_of_one(z1, z2, temperature):
    return right_by_cross_entropy(z1, z2, temperature)[None]


def wrong_prints(z1, z2, temperature):
    print(right_by_cross_entropy(z1, z2, temperature))


def right_by_cross_entropy(z1, z2, temperature):
    logits = logits_of(z1, z2, temperature)
    target = torch.cat([torch.arange(len(z1)) + len(z1), torch.arange(len(z1))])
    return F.cross_entropy(logits, target)


def right_as_the_authors_write_it(z1, z2, temperature):
    """Four blocks, and a billion taken from the diagonal."""
    a, b = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    itself, target = 1e9 * torch.eye(len(a), dtype=a.dtype), torch.arange(len(a))
    aa, bb = a @ a.T / temperature - itself, b @ b.T / temperature - itself
    ab = a @ b.T / temperature
    one = F.cross_entropy(torch.cat([ab, aa], 1), target)
    return (one + F.cross_entropy(torch.cat([ab.T, bb], 1), target)) / 2


def right_as_in_the_package(z1, z2, temperature):
    return nt_xent(z1, z2, temperature)


def right_without_the_diagonal(z1, z2, temperature):
    z = torch.cat([z1, z2])
    z = z / z.pow(2).sum(1, keepdim=True).sqrt()
    total = torch.zeros((), dtype=z.dtype)
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        s = (z[others] @ z[i]) / temperature
        total = total + torch.logsumexp(s, 0) - s[others.index((i + len(z1)) % len(z))]
    return total / len(z)
