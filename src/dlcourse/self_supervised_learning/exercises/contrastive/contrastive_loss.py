"""120.1a: NT-Xent, written out."""

import torch
import torch.nn.functional as F

from dlcourse.exercises import Exercise, Mistake


def contrastive_loss(z1, z2, temperature):
    """Return NT-Xent of a batch of pairs, a scalar tensor.

    z1, z2: (B, D), float64, B >= 2; row i of both comes from image i. Not normalised.
    temperature: positive; may be as small as 0.0001.
    """
    b = len(z1)
    z = F.normalize(torch.cat([z1, z2]), dim=1)  # (2B, D)
    logits = z @ z.T / temperature  # (2B, 2B)
    # No view is its own partner, or its own negative.
    logits = logits.masked_fill(torch.eye(2 * b, dtype=torch.bool), -torch.inf)
    # The partner of view i is i + B, and the other way round.
    partner = torch.arange(2 * b).roll(b)
    return -F.log_softmax(logits, dim=1)[torch.arange(2 * b), partner].mean()


def cases(rng):
    """Partners that are near to each other, of any length; sometimes a tiny temperature."""
    b, d = (int(n) for n in rng.integers(2, 7, size=2))
    z1 = torch.from_numpy(rng.standard_normal((b, d)))
    z2 = z1 + torch.from_numpy(rng.standard_normal((b, d)))
    scale = torch.from_numpy(rng.uniform(0.2, 3.0, size=(b, 1)))
    tiny = rng.random() < 0.4
    return {
        "z1": z1 * scale,
        "z2": z2,
        "temperature": 0.0001 if tiny else float(rng.uniform(0.1, 1.0)),
    }


def edges():
    """Two images; equal views; lengths far apart; the smallest temperature.

    And a view opposite to all others, whose logits are the least that there are: a diagonal that
    is not far below them, such as -10,000, still counts.
    """
    z1 = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.3, 2.0], [0.2, -2.0, 1.0]], dtype=torch.float64)
    z2 = torch.tensor([[1.5, 1.0, 0.0], [-2.0, 0.3, 1.0], [0.2, -1.0, 2.0]], dtype=torch.float64)
    lengths = torch.tensor([[100.0], [0.01], [1.0]], dtype=torch.float64)
    return {
        "two images": {"z1": z1[:2], "z2": z2[:2], "temperature": 0.5},
        "equal views": {"z1": z1, "z2": z1.clone(), "temperature": 0.2},
        "lengths far apart": {"z1": z1 * lengths, "z2": z2, "temperature": 0.2},
        "a temperature of 1": {"z1": z1, "z2": z2, "temperature": 1.0},
        "the smallest temperature": {"z1": z1, "z2": z2, "temperature": 0.0001},
        "a view opposite to all others": {
            "z1": z1[:1] * torch.tensor([[1.0], [-2.0]]), "z2": z1[:1] * torch.tensor([[-0.5], [-3]]),
            "temperature": 0.0001,
        },
    }  # fmt: skip


def _similarities(z1, z2):
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    n = len(z)
    return z @ z.T, torch.eye(n, dtype=torch.bool), torch.arange(n), torch.arange(n).roll(n // 2)


def listing_no_negatives(z1, z2, temperature):
    """Only pulls partners together."""
    return (1 - F.cosine_similarity(z1, z2, dim=1)).mean() / temperature


def listing_log_of_softmax(z1, z2, temperature):
    s, itself, row, partner = _similarities(z1, z2)
    share = F.softmax((s / temperature).masked_fill(itself, -torch.inf), dim=1)
    return -torch.log(share[row, partner]).mean()


def itself_included(z1, z2, temperature):
    s, _, row, partner = _similarities(z1, z2)
    return -F.log_softmax(s / temperature, dim=1)[row, partner].mean()


def itself_as_zero(z1, z2, temperature):
    s, itself, row, partner = _similarities(z1, z2)
    logits = (s / temperature).masked_fill(itself, 0.0)
    return -F.log_softmax(logits, dim=1)[row, partner].mean()


def one_direction(z1, z2, temperature):
    s, itself, row, partner = _similarities(z1, z2)
    logits = (s / temperature).masked_fill(itself, -torch.inf)
    return -F.log_softmax(logits, dim=1)[row, partner][: len(z1)].mean()


def other_views_alone(z1, z2, temperature):
    logits = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T / temperature
    target = torch.arange(len(z1))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def not_normalised(z1, z2, temperature):
    z = torch.cat([z1, z2])
    _, itself, row, partner = _similarities(z1, z2)
    logits = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    return -F.log_softmax(logits, dim=1)[row, partner].mean()


def times_temperature(z1, z2, temperature):
    return contrastive_loss(z1, z2, 1 / temperature)


def sum_not_mean(z1, z2, temperature):
    return contrastive_loss(z1, z2, temperature) * 2 * len(z1)


EXERCISE = Exercise(
    key="120.1a.contrastive-loss",
    title="NT-Xent",
    difficulty="implement",
    statement=r"""
Write NT-Xent. Let $u_1, \dots, u_{2B}$ be the rows of `z1` and then of `z2`, each divided by its
length, and let $p(i)$ be the partner of view $i$. Then

$$
\mathcal L = \frac{1}{2B} \sum_{i=1}^{2B}
  -\log \frac{\exp(u_i^\top u_{p(i)} / \tau)}{\sum_{k \ne i} \exp(u_i^\top u_k / \tau)} .
$$

Your function returns a scalar tensor, from which gradients flow back to both batches. It must be
right for temperatures down to 0.0001 too.
""",
    imports="import torch\nimport torch.nn.functional as F",
    reference=contrastive_loss,
    cases=cases,
    edges=edges,
    differentiable=("z1", "z2"),
    hints=[
        "Stack both batches, normalise, and one matrix product gives all similarities.",
        "Put -inf on the diagonal before the softmax: exp(-inf) is 0.",
        "It is a cross-entropy with 2B classes. View i of the stack has its partner at i + B, "
        "modulo 2B.",
    ],
    mistakes={
        "listing_no_negatives": Mistake(
            answer=listing_no_negatives,
            hint="partners are pulled together and nothing is pushed apart: there is no contrast, and "
            "a constant encoder would be perfect.",
        ),
        "listing_log_of_softmax": Mistake(
            answer=listing_log_of_softmax,
            hint="the logarithm is taken of a softmax: a small share "
            "underflows to 0 and its logarithm is -inf. Use log_softmax or cross_entropy.",
        ),
        "itself_included": Mistake(
            answer=itself_included,
            hint="each view stands among its own candidates, at similarity 1: no partner can win "
            "against that. Leave the diagonal out.",
        ),
        "itself_as_zero": Mistake(
            answer=itself_as_zero,
            hint="the diagonal is set to 0, and exp(0) = 1 still counts. Set it to -inf.",
        ),
        "one_direction": Mistake(
            answer=one_direction,
            hint="only the first views are asked for their partners. The second views are anchors "
            "too: average over all 2B.",
        ),
        "other_views_alone": Mistake(
            answer=other_views_alone,
            hint="an anchor is compared with the B views of the other kind alone, which is CLIP's "
            "loss. In SimCLR the other images' views of its own kind are negatives as well.",
        ),
        "not_normalised": Mistake(
            answer=not_normalised,
            hint="the rows are not divided by their lengths: long vectors would count for more.",
        ),
        "times_temperature": Mistake(
            answer=times_temperature,
            hint="the similarities are multiplied by the temperature. They are divided by it.",
        ),
        "sum_not_mean": Mistake(
            answer=sum_not_mean,
            hint="the terms are summed. Divide by their number, 2B.",
        ),
    },
)
