"""121.2a: SigLIP's loss."""

import torch
import torch.nn.functional as F

from dlcourse.exercises import Exercise, Mistake


def sigmoid_loss(x, y, scale, bias):
    """Return SigLIP's loss of a batch, a scalar.

    x, y: (B, D) features of pictures and captions, of length 1; row i of both is pair i.
    scale, bias: scalar tensors; the logit of a pair is scale · cosine + bias.
    """
    logits = scale * (x @ y.T) + bias
    z = 2 * torch.eye(len(x), dtype=x.dtype) - 1  # 1 for the right pairs, -1 for the others
    return -F.logsigmoid(z * logits).sum() / len(x)


def _unit(x):
    return F.normalize(x, dim=1)


def cases(rng):
    """Random features of length 1; scale and bias near SigLIP's start."""
    b, d = int(rng.integers(2, 9)), int(rng.integers(2, 7))
    x = torch.from_numpy(rng.standard_normal((b, d)))
    y = x + torch.from_numpy(rng.standard_normal((b, d)))
    scale, bias = rng.uniform(2.0, 20.0), rng.uniform(-10.0, 2.0)
    return {
        "x": _unit(x),
        "y": _unit(y),
        "scale": torch.tensor(scale, dtype=torch.float64),
        "bias": torch.tensor(bias, dtype=torch.float64),
    }


def edges():
    """One pair, perfect pairs, logits so large that an exponential overflows."""
    x = torch.eye(3, dtype=torch.float64)
    y = _unit(torch.tensor([[1.0, 0.2, 0], [0.3, 1.0, 0.1], [0, 0.4, 1.0]], dtype=torch.float64))

    def number(value):
        return torch.tensor(value, dtype=torch.float64)

    return {
        "one pair": {"x": x[:1], "y": y[:1], "scale": number(10.0), "bias": number(-10.0)},
        "perfect pairs": {"x": x, "y": x, "scale": number(10.0), "bias": number(-5.0)},
        "no bias": {"x": x, "y": y, "scale": number(3.0), "bias": number(0.0)},
        "very large logits": {"x": x, "y": -y, "scale": number(900.0), "bias": number(0.0)},
    }


def _loss(x, y, scale, bias, z=lambda n: 2 * torch.eye(n, dtype=torch.float64) - 1):
    return -F.logsigmoid(z(len(x)) * (scale * (x @ y.T) + bias)).sum() / len(x)


def listing(x, y, scale, bias):
    """The document's softmax."""
    logits = scale * (x @ y.T)
    right = torch.arange(len(x))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def mean_over_all(x, y, scale, bias):
    return _loss(x, y, scale, bias) / len(x)


def no_bias(x, y, scale, bias):
    return _loss(x, y, scale, 0 * bias)


def right_pairs_alone(x, y, scale, bias):
    return -F.logsigmoid(scale * (x * y).sum(1) + bias).mean()


def zero_for_negatives(x, y, scale, bias):
    return _loss(x, y, scale, bias, z=lambda n: torch.eye(n, dtype=torch.float64))


def bias_inside(x, y, scale, bias):
    return -F.logsigmoid((2 * torch.eye(len(x)) - 1) * (scale * (x @ y.T + bias))).sum() / len(x)


def by_exponentials(x, y, scale, bias):
    z = 2 * torch.eye(len(x), dtype=x.dtype) - 1
    return torch.log(1 + torch.exp(-z * (scale * (x @ y.T) + bias))).sum() / len(x)


EXERCISE = Exercise(
    key="121.2a.sigmoid-loss",
    title="A sigmoid for each pair",
    difficulty="implement",
    statement=r"""
SigLIP asks of each of the $B^2$ pairs by itself whether it belongs together:

$$
L = -\frac{1}{B} \sum_{i, j} \log \sigma\bigl( z_{ij} (t \, x_i^\top y_j + b) \bigr),
\qquad z_{ij} = \begin{cases} 1 & i = j \\ -1 & i \neq j . \end{cases}
$$

The sum over all pairs is divided by $B$, not by $B^2$. The answer must train, and must hold for
large logits as well.
""",
    imports="import torch\nimport torch.nn.functional as F",
    reference=sigmoid_loss,
    cases=cases,
    edges=edges,
    differentiable=("x", "y", "scale", "bias"),
    hints=[
        "`2 * torch.eye(B) - 1` has 1 on the diagonal and -1 elsewhere.",
        "`F.logsigmoid` is right where `torch.exp` overflows.",
        "The bias is added after the scale has multiplied the cosine.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="that is CLIP's softmax, in which all pairs of a row compete.",
        ),
        "mean_over_all": Mistake(
            answer=mean_over_all,
            hint="you divide by B². The paper divides by B.",
        ),
        "no_bias": Mistake(
            answer=no_bias,
            hint="the bias is missing. Without it the B² - B wrong pairs rule the first steps.",
        ),
        "right_pairs_alone": Mistake(
            answer=right_pairs_alone,
            hint="only the right pairs are asked about: then all features may become equal.",
        ),
        "zero_for_negatives": Mistake(
            answer=zero_for_negatives,
            hint="z is 0 for wrong pairs, so that they add a constant. It must be -1.",
        ),
        "bias_inside": Mistake(
            answer=bias_inside,
            hint="the scale multiplies the bias too. It multiplies the cosine alone.",
        ),
        "by_exponentials": Mistake(
            answer=by_exponentials,
            hint="the exponential overflows where logits are large. Use `F.logsigmoid`.",
        ),
    },
)
