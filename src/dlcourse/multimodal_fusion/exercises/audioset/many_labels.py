"""121.1b: binary cross-entropy of many labels, from logits."""

import torch
import torch.nn.functional as F

from dlcourse.exercises import Exercise, Mistake


def many_labels_loss(logits, targets, positive_weight):
    """Return the mean loss over clips and classes, a scalar tensor.

    logits: (B, C), float64, of any size.
    targets: (B, C), float64, 0 ... 1.
    positive_weight: (C,), float64, positive; the weight of the positive
    term of each class.
    """
    # -log sigmoid(z) = softplus(-z), and -log(1 - sigmoid(z)) = softplus(z)
    positive = positive_weight * targets * F.softplus(-logits)
    negative = (1 - targets) * F.softplus(logits)
    return (positive + negative).mean()


def cases(rng):
    """Targets of 0 and 1, sometimes blended by mixup; logits that are sometimes huge."""
    b, c = (int(n) for n in rng.integers(1, 6, size=2))
    targets = (rng.random((b, c)) < 0.4).astype(float)
    if rng.random() < 0.4:
        lam = rng.random()
        targets = lam * targets + (1 - lam) * targets[::-1]
    scale = rng.choice([1.0, 300.0])
    return {
        "logits": torch.from_numpy(rng.standard_normal((b, c)) * scale),
        "targets": torch.from_numpy(targets.copy()),
        "positive_weight": torch.from_numpy(rng.uniform(0.5, 20, c)),
    }


def edges():
    """A sure error in each direction, logits of 0, half a label, a single number."""
    one = torch.ones(1, dtype=torch.float64)

    def case(z, y, w=one):
        return {
            "logits": torch.tensor([z], dtype=torch.float64),
            "targets": torch.tensor([y], dtype=torch.float64),
            "positive_weight": w,
        }

    return {
        "sure that it is there, and it is not": case([800.0], [0.0]),
        "sure that it is not there, and it is": case([-800.0], [1.0]),
        "sure and right": case([800.0], [1.0]),
        "knows nothing": case([0.0], [1.0]),
        "half a label": case([1.5], [0.5], 4 * one),
        "weights of three classes": case(
            [1.0, -2.0, 0.5], [1.0, 1.0, 0.0], torch.tensor([1.0, 9.0, 3.0], dtype=torch.float64)
        ),
    }


def listing_from_probabilities(logits, targets, positive_weight):
    """The document's model returns probabilities, so the loss must take logarithms of them."""
    p = torch.sigmoid(logits)
    loss = -positive_weight * targets * torch.log(p.clamp(1e-12, 1 - 1e-12))
    return (loss - (1 - targets) * torch.log((1 - p).clamp(1e-12, 1 - 1e-12))).mean()


def softmax_over_classes(logits, targets, positive_weight):
    return -(positive_weight * targets * F.log_softmax(logits, dim=1)).mean()


def no_weight(logits, targets, positive_weight):
    return F.binary_cross_entropy_with_logits(logits, targets)


def weight_on_both(logits, targets, positive_weight):
    return F.binary_cross_entropy_with_logits(logits, targets, weight=positive_weight)


def weight_on_negatives(logits, targets, positive_weight):
    positive = targets * F.softplus(-logits)
    return (positive + positive_weight * (1 - targets) * F.softplus(logits)).mean()


def positives_alone(logits, targets, positive_weight):
    return (positive_weight * targets * F.softplus(-logits)).mean()


def swapped_signs(logits, targets, positive_weight):
    return many_labels_loss(-logits, targets, positive_weight)


def sum_over_classes(logits, targets, positive_weight):
    return many_labels_loss(logits, targets, positive_weight) * logits.shape[1]


EXERCISE = Exercise(
    key="121.1b.many-labels",
    title="Many labels, from logits",
    difficulty="implement",
    statement=r"""
Write the loss of a model that answers yes or no for each class on its own. With the logit $z$, the
target $y$ and the class's weight $w$, one term is

$$
\ell = -\,w\, y \log \sigma(z) - (1 - y) \log\bigl(1 - \sigma(z)\bigr),
$$

and the loss is the mean over all clips and classes. It must be right, **and its gradient too**,
for $z = \pm 800$, where $\sigma(z)$ is 0 or 1 to the last bit.
""",
    imports="import torch\nimport torch.nn.functional as F",
    reference=many_labels_loss,
    cases=cases,
    edges=edges,
    differentiable=("logits",),
    rtol=1e-6,
    hints=[
        "Do not compute a probability at all.",
        "-log sigmoid(z) = log(1 + exp(-z)), which is `F.softplus(-z)`. What is 1 - sigmoid(z)?",
        "1 - sigmoid(z) = sigmoid(-z), so the second logarithm is `-F.softplus(z)`.",
    ],
    mistakes={
        "listing_from_probabilities": Mistake(
            answer=listing_from_probabilities,
            hint="the sigmoid is taken first, as the document's listing does, and the logarithm "
            "of a rounded or clamped probability has lost how wrong the logit is, and its "
            "gradient with it.",
        ),
        "softmax_over_classes": Mistake(
            answer=softmax_over_classes,
            hint="a softmax makes the classes compete for one label. A clip may have many labels, "
            "or none: each class answers on its own.",
        ),
        "no_weight": Mistake(
            answer=no_weight, hint="the weight of the positive term is missing."
        ),
        "weight_on_both": Mistake(
            answer=weight_on_both,
            hint="the weight multiplies both terms. It belongs to the positive one alone: the "
            "class as a whole should not count more, its rare positives should.",
        ),
        "weight_on_negatives": Mistake(
            answer=weight_on_negatives, hint="the weight stands at the negative term."
        ),
        "positives_alone": Mistake(
            answer=positives_alone,
            hint="the negative term is missing: a model that says yes to everything would have "
            "no loss.",
        ),
        "swapped_signs": Mistake(
            answer=swapped_signs, hint="the sign of the logit is turned round."
        ),
        "sum_over_classes": Mistake(
            answer=sum_over_classes,
            hint="the terms are summed over the classes. The mean is over clips and classes.",
        ),
    },
)
