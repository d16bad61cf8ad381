"""120.1a: with labels, all images of a class are partners (SupCon)."""

import torch
import torch.nn.functional as F

from dlcourse.exercises import Exercise, Mistake


def supervised_contrast(z, labels, temperature):
    """Return the supervised contrastive loss, a scalar tensor.

    z: (N, D), float64, not normalised.
    labels: (N,), int64; at least one class has two members, and some may have one.
    temperature: positive; may be as small as 0.0001.
    """
    n = len(z)
    u = F.normalize(z, dim=1)
    itself = torch.eye(n, dtype=torch.bool)
    logits = (u @ u.T / temperature).masked_fill(itself, -torch.inf)
    log_share = F.log_softmax(logits, dim=1)  # (N, N)
    partners = (labels[:, None] == labels[None]) & ~itself
    # For each anchor the mean over its partners; the logarithm is inside of the mean.
    total = torch.where(partners, -log_share, 0.0).sum(1)
    count = partners.sum(1)
    has_partner = count > 0
    return (total[has_partner] / count[has_partner]).mean()


def cases(rng):
    n, d = int(rng.integers(5, 10)), int(rng.integers(2, 6))
    labels = rng.integers(0, 3, size=n)
    labels[:3] = 0  # a class of three or more …
    labels[-1] = 7  # … and one of a single image
    return {
        "z": torch.from_numpy(rng.standard_normal((n, d)) * rng.uniform(0.5, 2.0)),
        "labels": torch.from_numpy(labels),
        "temperature": 0.0001 if rng.random() < 0.5 else float(rng.uniform(0.1, 1.0)),
    }


def edges():
    """One class, one pair, only pairs; labels of any size; the smallest temperature, and with it
    an image opposite to all others."""
    z = torch.tensor(
        [[1.0, 2.0], [-1.0, 0.3], [0.2, -2.0], [1.5, 0.5], [-0.7, -0.6]], dtype=torch.float64
    )

    def case(labels, temperature=0.5, z=z):
        return {"z": z, "labels": torch.tensor(labels), "temperature": temperature}

    # One image opposite to all others: a diagonal of -10,000 is no less than its logits.
    opposite = z[:1] * torch.tensor([[1.0], [-2.0], [-0.5]])

    return {
        "all of one class": case([4, 4, 4, 4, 4]),
        "one pair alone": case([0, 1, 2, 1, 3]),
        "classes of two": case([0, 1, 0, 1, 2]),
        "labels that are no row numbers": case([1000, -3, 1000, -3, -3]),
        "the smallest temperature": case([0, 0, 1, 1, 0], 0.0001),
        "an image opposite to all others": case([0, 0, 1], 0.0001, opposite),
    }


def _parts(z, labels, temperature):
    u = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool)
    logits = u @ u.T / temperature
    return logits, itself, (labels[:, None] == labels[None]) & ~itself


def _mean_over_partners(terms, partners):
    total, count = torch.where(partners, terms, 0.0).sum(1), partners.sum(1)
    return (total[count > 0] / count[count > 0]).mean()


def listing(z, labels, temperature):
    logits, itself, partners = _parts(z, labels, temperature)
    share = F.softmax(logits.masked_fill(itself, -torch.inf), dim=1)
    return _mean_over_partners(-torch.log(share), partners)


def itself_as_partner(z, labels, temperature):
    logits, itself, partners = _parts(z, labels, temperature)
    terms = -F.log_softmax(logits, dim=1)
    return _mean_over_partners(terms, partners | itself)


def logarithm_outside(z, labels, temperature):
    logits, itself, partners = _parts(z, labels, temperature)
    log_share = F.log_softmax(logits.masked_fill(itself, -torch.inf), dim=1)
    has = partners.any(1)
    together = torch.logsumexp(log_share.masked_fill(~partners, -torch.inf)[has], 1)
    return -(together - partners.sum(1)[has].log()).mean()


def sum_over_partners(z, labels, temperature):
    logits, itself, partners = _parts(z, labels, temperature)
    terms = -F.log_softmax(logits.masked_fill(itself, -torch.inf), dim=1)
    return torch.where(partners, terms, 0.0).sum(1)[partners.any(1)].mean()


def all_anchors_counted(z, labels, temperature):
    right = supervised_contrast(z, labels, temperature)
    _, _, partners = _parts(z, labels, temperature)
    return right * partners.any(1).double().mean()


def mean_over_all_pairs(z, labels, temperature):
    logits, itself, partners = _parts(z, labels, temperature)
    return -F.log_softmax(logits.masked_fill(itself, -torch.inf), dim=1)[partners].mean()


def other_partners_left_out(z, labels, temperature):
    logits, itself, partners = _parts(z, labels, temperature)
    others = torch.logsumexp(logits.masked_fill(itself | partners, -torch.inf), 1, keepdim=True)
    return _mean_over_partners(torch.logaddexp(logits, others) - logits, partners)


EXERCISE = Exercise(
    key="120.1a.supervised-contrast",
    title="When labels say who belongs together",
    difficulty="extend",
    statement=r"""
NT-Xent pushes away images of the anchor's own class: they are false negatives. Where labels are
known, the remedy is to make all of them partners (Khosla et al. 2020, "SupCon", equation 2). Let
$u_i$ be the rows of `z`, each divided by its length, and $P(i)$ all other images with the label of
$i$. Over the anchors that have a partner, take the mean of

$$
\ell_i = \frac{-1}{\lvert P(i)\rvert} \sum_{p \in P(i)}
  \log \frac{\exp(u_i^\top u_p/\tau)}{\sum_{k \ne i} \exp(u_i^\top u_k/\tau)} .
$$

Your function returns a scalar tensor, from which gradients flow back to `z`, and must be right for
temperatures down to 0.0001.
""",
    imports="import torch\nimport torch.nn.functional as F",
    reference=supervised_contrast,
    cases=cases,
    edges=edges,
    differentiable=("z",),
    hints=[
        "`labels[:, None] == labels[None]` tells for all pairs whether they are of one class.",
        "The denominator is NT-Xent's: all other images, partners among them.",
        "Mean over the partners of each anchor first, then over the anchors that have any. "
        "Where there is no partner, 0/0 would be NaN.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the logarithm is taken of a softmax: a small share "
            "underflows to 0 and its logarithm is -inf. Use log_softmax.",
        ),
        "itself_as_partner": Mistake(
            answer=itself_as_partner,
            hint="an image is its own partner, and stands in its own denominator. Leave the "
            "diagonal out of both.",
        ),
        "logarithm_outside": Mistake(
            answer=logarithm_outside,
            hint="the logarithm is taken of the mean over partners. It belongs inside: otherwise "
            "one near partner is enough.",
        ),
        "sum_over_partners": Mistake(
            answer=sum_over_partners,
            hint="the terms of an anchor are summed, not averaged: large classes would rule.",
        ),
        "all_anchors_counted": Mistake(
            answer=all_anchors_counted,
            hint="you divide by the number of all images. Those without a partner have no term.",
        ),
        "mean_over_all_pairs": Mistake(
            answer=mean_over_all_pairs,
            hint="all pairs are averaged at once: an anchor of a large class then counts more. "
            "Average over the partners of each anchor first.",
        ),
        "other_partners_left_out": Mistake(
            answer=other_partners_left_out,
            hint="the denominator has one partner and the negatives alone. In this loss it runs "
            "over all other images, the other partners too.",
        ),
    },
)
