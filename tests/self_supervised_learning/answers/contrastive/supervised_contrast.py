"""Answers to 120.1a.supervised-contrast."""

import torch
import torch.nn.functional as F


def log_shares(z, temperature):
    u = F.normalize(z, dim=1)
    logits = (u @ u.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return F.log_softmax(logits, dim=1)


def wrong_lonely_images_are_nan(z, labels, temperature):
    partners = (labels[:, None] == labels) & ~torch.eye(len(z), dtype=torch.bool)
    terms = torch.where(partners, -log_shares(z, temperature), 0.0).sum(1) / partners.sum(1)
    return terms.mean()


def wrong_lonely_images_count_as_one(z, labels, temperature):
    partners = (labels[:, None] == labels) & ~torch.eye(len(z), dtype=torch.bool)
    terms = torch.where(partners, -log_shares(z, temperature), 0.0).sum(1)
    return (terms / partners.sum(1).clamp(min=1)).mean()


def wrong_first_partner_alone(z, labels, temperature):
    shares, terms = log_shares(z, temperature), []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i and labels[k] == labels[i]]
        if others:
            terms.append(-shares[i, others[0]])
    return torch.stack(terms).mean()


def wrong_labels_as_rows(z, labels, temperature):
    return F.nll_loss(log_shares(z, temperature).clamp(min=-1e9), labels.clamp(0, len(z) - 1))


def wrong_other_classes_are_partners(z, labels, temperature):
    return _mean(z, labels, temperature, lambda a, b: a != b)


def _mean(z, labels, temperature, together):
    shares, terms = log_shares(z, temperature), []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i and together(labels[k], labels[i])]
        if others:
            terms.append(-shares[i, others].mean())
    return torch.stack(terms).mean() if terms else shares.new_zeros(())


def wrong_sum_over_anchors(z, labels, temperature):
    return _mean(z, labels, temperature, lambda a, b: a == b) * len(z)


def wrong_masked_by_multiplying(z, labels, temperature):
    partners = (labels[:, None] == labels) & ~torch.eye(len(z), dtype=torch.bool)
    total = -(log_shares(z, temperature) * partners).sum(1)
    has = partners.any(1)
    return (total[has] / partners.sum(1)[has]).mean()


def wrong_detached(z, labels, temperature):
    return right_with_loops(z.detach(), labels, temperature)


def wrong_a_number(z, labels, temperature):
    return right_with_loops(z, labels, temperature).item()


def wrong_diagonal_at_minus_ten_thousand(z, labels, temperature):
    u = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool)
    shares = (u @ u.T / temperature).masked_fill(itself, -1e4).log_softmax(1)
    partners = (labels[:, None] == labels) & ~itself
    has = partners.any(1)
    return -(torch.where(partners, shares, 0.0).sum(1)[has] / partners.sum(1)[has]).mean()


def wrong_lonely_images_are_no_negatives(z, labels, temperature):
    keep = (labels[:, None] == labels).sum(1) > 1
    return right_with_loops(z[keep], labels[keep], temperature)


def wrong_denominator_detached(z, labels, temperature):
    """The value is right; only the pull on the partners is trained."""
    u = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool)
    logits = (u @ u.T / temperature).masked_fill(itself, -torch.inf)
    shares = logits - torch.logsumexp(logits, 1, keepdim=True).detach()
    terms = []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i and labels[k] == labels[i]]
        if others:
            terms.append(-shares[i, others].mean())
    return torch.stack(terms).mean()


def right_with_loops(z, labels, temperature):
    return _mean(z, labels, temperature, lambda a, b: a == b)


def right_by_weights(z, labels, temperature):
    n = len(z)
    u = z / torch.linalg.norm(z, dim=1, keepdim=True)
    s = u @ u.T / temperature
    off = 1 - torch.eye(n, dtype=z.dtype)
    largest = (s * off - 1e9 * (1 - off)).max(1, keepdim=True).values.detach()
    log_sum = ((s - largest).clamp(max=0).exp() * off).sum(1).log() + largest[:, 0]
    weight = (labels.view(-1, 1) == labels.view(1, -1)).to(z.dtype) * off
    count = weight.sum(1)
    anchors = count > 0
    mean_similarity = (weight * s).sum(1)[anchors] / count[anchors]
    return (log_sum[anchors] - mean_similarity).sum() / anchors.sum()
