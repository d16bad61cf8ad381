"""Answers to 120.1a.contrastive-loss."""

import torch
import torch.nn.functional as F


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


def right_without_the_diagonal(z1, z2, temperature):
    z = torch.cat([z1, z2])
    z = z / z.pow(2).sum(1, keepdim=True).sqrt()
    total = torch.zeros((), dtype=z.dtype)
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        s = (z[others] @ z[i]) / temperature
        total = total + torch.logsumexp(s, 0) - s[others.index((i + len(z1)) % len(z))]
    return total / len(z)
