"""122.1a: the log-density of a squashed Gaussian."""

import math

import torch
import torch.nn.functional as F

from dlcourse.exercises import Exercise, Mistake


def log_prob_of_tanh(u, mean, log_std):
    """Return the log-density of the action tanh(u), (B,), in nats.

    u: what was drawn before tanh, (B, d); mean, log_std: of the normal distribution, (B, d).
    """
    z = (u - mean) * torch.exp(-log_std)
    normal = -0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)
    slope = 2 * (math.log(2) - u - F.softplus(-2 * u))  # log(1 - tanh² u)
    return (normal - slope).sum(1)


def cases(rng):
    """Ordinary draws, of one to four dimensions."""
    b, d = int(rng.integers(2, 6)), int(rng.integers(2, 5))
    mean, log_std, noise = (torch.from_numpy(rng.normal(size=(b, d))) for _ in range(3))
    return {"u": mean + log_std.exp() * noise, "mean": mean, "log_std": log_std}


def edges():
    """Zero, one dimension, batch equal to dimensions, tanh(u) = 1 to the bit, exp(u) too large."""
    zero = torch.zeros(1, 1).double()
    square = torch.tensor([[0.3, -0.8], [1.2, 0.1]]).double()
    return {
        "zero everywhere": {"u": zero, "mean": zero, "log_std": zero},
        "one dimension": {"u": zero + 0.7, "mean": zero, "log_std": zero - 1},
        "batch and dimensions are equal": {"u": square, "mean": square.T, "log_std": -square},
        "far outside": {"u": zero + 30, "mean": zero + 29, "log_std": zero},
        "far on the other side": {"u": zero - 30, "mean": zero - 29, "log_std": zero},
        "exp(u) is infinite": {"u": zero + 1000, "mean": zero + 999, "log_std": zero},
        "exp(-u) is infinite": {"u": zero - 1000, "mean": zero - 999, "log_std": zero},
    }


def listing(u, mean, log_std):
    """The document clamps, and has no density: the nearest is that of the normal number."""
    z = (u - mean) * torch.exp(-log_std)
    return (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(1)


def turned(u, mean, log_std):
    normal = listing(u, mean, log_std)
    return 2 * normal - log_prob_of_tanh(u, mean, log_std)


def averaged(u, mean, log_std):
    return log_prob_of_tanh(u, mean, log_std) / u.shape[1]


def overflows(u, mean, log_std):
    return listing(u, mean, log_std) - (1 - torch.tanh(u) ** 2).log().sum(1)


def with_an_epsilon(u, mean, log_std):
    return listing(u, mean, log_std) - (1 - torch.tanh(u) ** 2 + 1e-6).log().sum(1)


def no_deviation(u, mean, log_std):
    return log_prob_of_tanh(u, mean, log_std) + log_std.sum(1)


EXERCISE = Exercise(
    key="122.1a.log-prob",
    title="The density after tanh",
    difficulty="implement",
    statement=r"""
A number $u$ is drawn from $N(\mu, \sigma^2)$ in each of $d$ dimensions, independently, and the
action is $a = \tanh u$. Write $\log \pi(a)$ for each example of the batch: the log-density of $u$,
minus the log of how much tanh stretches there. It must hold, with a finite gradient, however large
$|u|$ is: at 30, $\tanh u$ is 1 to the last bit, and at 1000, $e^u$ is infinite. No small number
may be added to hide it.
""",
    imports="import math\n\nimport torch\nimport torch.nn.functional as F",
    reference=log_prob_of_tanh,
    cases=cases,
    edges=edges,
    differentiable=("u", "mean", "log_std"),
    hints=[
        "Change of variables: log π(a) = log N(u; μ, σ²) − log |da/du|, and da/du = 1 − tanh² u.",
        "The dimensions are independent: sum their log-densities.",
        "1 − tanh² u = 4 / (eᵘ + e⁻ᵘ)². Its logarithm is 2 (log 2 − u − softplus(−2u)). Take "
        "`F.softplus`: log(1 + exp(x)) is infinite where x is large.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing, hint="that is the density of u, before tanh. The action's is another."
        ),
        "turned": Mistake(
            answer=turned, hint="the correction has the wrong sign: where tanh is flat, many u "
            "fall on few a, so the density grows.",
        ),
        "averaged": Mistake(answer=averaged, hint="the dimensions are averaged: sum them."),
        "overflows": Mistake(
            answer=overflows,
            hint="1 − tanh² u is 0 where u is large, and its logarithm infinite. Rewrite it.",
        ),
        "with_an_epsilon": Mistake(
            answer=with_an_epsilon,
            hint="a small number is added inside the logarithm: far outside the value is wrong.",
        ),
        "no_deviation": Mistake(
            answer=no_deviation, hint="−log σ is missing: a narrow normal distribution is high."
        ),
    },
)
