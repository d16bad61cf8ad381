"""121.2a: the symmetric contrastive loss from raw projections and a log-scale."""

import torch
import torch.nn.functional as F

from dlcourse.exercises import Exercise, Mistake


def symmetric_loss(images, texts, log_scale):
    """Return CLIP's loss of a batch, a scalar.

    images, texts: (B, D) projections, not yet of length 1; row i of both is pair i.
    log_scale: a scalar tensor; cosines are multiplied by its exponential, at most 100.
    """
    x = F.normalize(images, dim=1)
    y = F.normalize(texts, dim=1)
    scale = log_scale.exp().clamp(max=100.0)
    logits = scale * (x @ y.T)
    right = torch.arange(len(x))
    captions = F.cross_entropy(logits, right)  # which caption belongs to the picture?
    pictures = F.cross_entropy(logits.T, right)  # which picture belongs to the caption?
    return (captions + pictures) / 2


def cases(rng):
    """Random projections of any length, captions near their pictures."""
    b, d = int(rng.integers(2, 9)), int(rng.integers(2, 7))
    images = torch.from_numpy(rng.standard_normal((b, d)) * rng.uniform(0.3, 3.0))
    texts = images + torch.from_numpy(rng.standard_normal((b, d)))
    log_scale = torch.tensor(float(rng.uniform(0.0, 3.0)), dtype=torch.float64)
    return {"images": images, "texts": texts, "log_scale": log_scale}


def edges():
    """One pair, two equal pictures, a square batch, a scale above the limit, one below 1."""
    x = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.3, 2.0], [0.2, -2.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([[0.8, 1.0, 1.5], [-2.0, 1.0, 0.2], [1.2, -1.0, 1.0]], dtype=torch.float64)
    scale = torch.tensor(1.0, dtype=torch.float64)
    return {
        "one pair": {"images": x[:1], "texts": y[:1], "log_scale": scale},
        "as many pairs as numbers": {"images": x, "texts": y, "log_scale": scale},
        "two equal pictures": {"images": x[[0, 0]], "texts": y[:2], "log_scale": scale},
        "a scale above the limit": {"images": x, "texts": y, "log_scale": 7 * scale},
        "a scale below 1": {"images": x, "texts": y, "log_scale": -2 * scale},
        "the scale 1": {"images": x, "texts": y, "log_scale": 0 * scale},
    }


def _loss(images, texts, scale, logits=lambda s, x, y: s * (x @ y.T)):
    x, y = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    s = logits(scale, x, y)
    right = torch.arange(len(x))
    return (F.cross_entropy(s, right) + F.cross_entropy(s.T, right)) / 2


def _scale(log_scale):
    return log_scale.exp().clamp(max=100.0)


def listing(images, texts, log_scale):
    """The document's: the temperature is a constant, and nothing learns it."""
    return _loss(images, texts, 1 / 0.07)


def one_direction(images, texts, log_scale):
    x, y = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    return F.cross_entropy(_scale(log_scale) * (x @ y.T), torch.arange(len(x)))


def not_normalised(images, texts, log_scale):
    s = _scale(log_scale) * (images @ texts.T)
    right = torch.arange(len(images))
    return (F.cross_entropy(s, right) + F.cross_entropy(s.T, right)) / 2


def scale_divides(images, texts, log_scale):
    return _loss(images, texts, 1 / _scale(log_scale))


def no_limit(images, texts, log_scale):
    return _loss(images, texts, log_scale.exp())


def no_exponential(images, texts, log_scale):
    return _loss(images, texts, log_scale.clamp(max=100.0))


def sum_of_both(images, texts, log_scale):
    return 2 * _loss(images, texts, _scale(log_scale))


EXERCISE = Exercise(
    key="121.2a.symmetric-loss",
    title="The symmetric loss",
    difficulty="implement",
    statement=r"""
Two towers have given you projections of $B$ pictures and of their $B$ captions. Normalise each row
to length 1, multiply all cosines by $\min(e^{s}, 100)$, where $s$ is `log_scale`, and average two
cross-entropies: which caption belongs to each picture, and which picture to each caption.

The answer must train: gradients have to reach both projections and the scale.
""",
    imports="import torch\nimport torch.nn.functional as F",
    reference=symmetric_loss,
    cases=cases,
    edges=edges,
    differentiable=("images", "texts", "log_scale"),
    hints=[
        "`F.normalize(x, dim=1)` makes each row one of length 1.",
        "The right class of row i is i, in the logits as well as in their transpose.",
        "`log_scale.exp().clamp(max=100.0)` is the factor of the cosines.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the temperature is the constant 0.07. It has to come from log_scale, so that "
            "training can change it.",
        ),
        "one_direction": Mistake(
            answer=one_direction,
            hint="only pictures look for captions. Captions look for pictures too: the "
            "cross-entropy of the transpose.",
        ),
        "not_normalised": Mistake(
            answer=not_normalised,
            hint="the rows are not normalised: a long vector would win by its length.",
        ),
        "scale_divides": Mistake(
            answer=scale_divides,
            hint="you divide by the scale. It is 1/τ, and cosines are multiplied by it.",
        ),
        "no_limit": Mistake(
            answer=no_limit,
            hint="the scale has no upper limit. It is kept at 100 or less.",
        ),
        "no_exponential": Mistake(
            answer=no_exponential,
            hint="the exponential is missing: log_scale is a logarithm.",
        ),
        "sum_of_both": Mistake(
            answer=sum_of_both,
            hint="the two directions are added. Take their mean.",
        ),
    },
)
