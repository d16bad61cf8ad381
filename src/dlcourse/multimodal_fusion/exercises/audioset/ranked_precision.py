"""121.1b: average precision of one class, with ties."""

import torch

from dlcourse.exercises import Exercise, Mistake


def ranked_precision(scores, targets):
    """Return the average precision of one class, a scalar float64 tensor.

    scores: (N,), float64; higher means likelier; some may be equal.
    targets: (N,), float64, 0 or 1, with a 1 at least.
    """
    total = torch.zeros((), dtype=torch.float64)
    for k in torch.nonzero(targets).flatten():
        # All that is ranked at least as high as this positive.
        above = scores >= scores[k]
        total = total + targets[above].mean()  # the precision there
    return total / targets.sum()


def cases(rng):
    """Scores that are all different, or of few values."""
    n = int(rng.integers(2, 12))
    scores = rng.standard_normal(n)
    if rng.random() < 0.5:
        scores = scores.round()
    targets = (rng.random(n) < 0.4).astype(float)
    targets[rng.integers(n)] = 1
    return {"scores": torch.from_numpy(scores), "targets": torch.from_numpy(targets)}


def edges():
    """One clip, a perfect ranking, the worst one, all equal, all positive, negative scores."""

    def case(scores, targets):
        return {
            "scores": torch.tensor(scores, dtype=torch.float64),
            "targets": torch.tensor(targets, dtype=torch.float64),
        }

    return {
        "a perfect ranking": case([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0]),
        "the worst ranking": case([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1]),
        "first and third": case([0.9, 0.8, 0.2, 0.1], [1, 0, 1, 0]),
        "all scores equal": case([0.5, 0.5, 0.5, 0.5, 0.5], [0, 1, 0, 0, 1]),
        "a tie, the negative first": case([0.9, 0.5, 0.5, 0.1], [0, 0, 1, 0]),
        "a tie, the positive first": case([0.9, 0.5, 0.5, 0.1], [0, 1, 0, 0]),
        "all positive": case([0.1, 0.2, 0.3], [1, 1, 1]),
        "one clip": case([-3.0], [1]),
        "logits, all below 0": case([-1.0, -5.0, -2.0], [0, 1, 1]),
    }


def _ranked(scores, targets):
    order = scores.argsort(descending=True, stable=True)
    hit = targets[order]
    return hit, hit.cumsum(0) / torch.arange(1, len(hit) + 1, dtype=torch.float64)


def ties_in_order(scores, targets):
    hit, precision = _ranked(scores, targets)
    return (hit * precision).sum() / hit.sum()


def listing_threshold(scores, targets):
    return ((scores > 0.5) == (targets > 0.5)).double().mean()


def mean_over_all_ranks(scores, targets):
    return _ranked(scores, targets)[1].mean()


def divided_by_all(scores, targets):
    return ranked_precision(scores, targets) * targets.sum() / len(targets)


def ascending(scores, targets):
    return ranked_precision(-scores, targets)


def recall(scores, targets):
    hit, _ = _ranked(scores, targets)
    return (hit * hit.cumsum(0)).sum() / hit.sum() ** 2


def trapezia(scores, targets):
    hit, precision = _ranked(scores, targets)
    r = torch.cat([torch.zeros(1, dtype=torch.float64), hit.cumsum(0) / hit.sum()])
    p = torch.cat([torch.ones(1, dtype=torch.float64), precision])
    return torch.trapezoid(p, r)


def area_under_roc(scores, targets):
    positive, negative = scores[targets > 0], scores[targets == 0]
    if len(negative) == 0:
        return torch.ones((), dtype=torch.float64)
    return (positive[:, None] > negative).double().mean()


EXERCISE = Exercise(
    key="121.1b.ranked-precision",
    title="Average precision, ties included",
    difficulty="extend",
    statement=r"""
Write the average precision of one class. Go through its positive clips; for each, take all clips
whose score is **at least as high** (itself included), and compute which share of them is positive:
the precision at that clip's rank. The result is the mean of these precisions.

Clips of equal score share a rank, so the result may not depend on the order in which clips come.
""",
    imports="import torch",
    reference=ranked_precision,
    cases=cases,
    edges=edges,
    hints=[
        "A loop over the positive clips is fine: `torch.nonzero(targets)` finds them.",
        "`scores >= scores[k]` is a mask of all that is ranked at least as high as clip k.",
        "The precision there is the mean of `targets` under the mask.",
    ],
    mistakes={
        "ties_in_order": Mistake(
            answer=ties_in_order,
            hint="clips of equal score get different ranks, by the order in which they come. A "
            "model that gives all clips the same score would look better for a sorted file.",
        ),
        "listing_threshold": Mistake(
            answer=listing_threshold,
            hint="that is the accuracy at a threshold of 0.5, which suggests itself where a model "
            "returns probabilities, as the document's listing does. With 2 % positives, one that "
            "always says no has 98 % of it.",
        ),
        "mean_over_all_ranks": Mistake(
            answer=mean_over_all_ranks,
            hint="the precision is averaged over all clips. Only the ranks of positives count.",
        ),
        "divided_by_all": Mistake(
            answer=divided_by_all,
            hint="the sum is divided by the number of clips. Divide by the number of positives: "
            "a perfect ranking has 1.",
        ),
        "ascending": Mistake(
            answer=ascending, hint="the ranking is turned round: the highest score comes first."
        ),
        "recall": Mistake(
            answer=recall,
            hint="that is the mean recall, which does not see the negatives above a positive.",
        ),
        "trapezia": Mistake(
            answer=trapezia,
            hint="that is the area under the precision-recall curve by trapezia. Between two "
            "points that curve is no line; average precision takes steps.",
        ),
        "area_under_roc": Mistake(
            answer=area_under_roc,
            hint="that is the area under the ROC curve, another metric: the share of pairs in "
            "the right order, which hardly sees the negatives at the top.",
        ),
    },
)
