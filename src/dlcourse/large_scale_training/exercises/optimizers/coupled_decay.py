"""119.2: what the sign does to a decay that was added to the gradient."""

import torch

from dlcourse.exercises import Exercise, Mistake


def decay_pull(p, g, lr, weight_decay):
    """Return what the decay alone adds to one sign step: (coupled, decoupled).

    p, g: parameters and gradient, tensors of one shape.
    The step is Lion's with both betas 0.
    """
    without = -lr * torch.sign(g)
    coupled = -lr * torch.sign(g + weight_decay * p) - without
    decoupled = -lr * (torch.sign(g) + weight_decay * p) - without
    return coupled, decoupled


def cases(rng):
    """Weights and gradients of such sizes that the decay turns some of the signs."""
    n = int(rng.integers(8, 20))
    weight_decay = float(rng.uniform(0.1, 1.0))
    p = torch.from_numpy(rng.standard_normal(n))
    g = torch.from_numpy(rng.standard_normal(n)) * weight_decay
    g[: n // 4] = 0.0  # where there is no gradient, the coupled decay moves by the full rate
    return {"p": p, "g": g, "lr": float(10 ** rng.uniform(-3, -1)), "weight_decay": weight_decay}


def edges():
    """Zeros in weights and gradients, no decay, one that cancels the gradient; other shapes."""
    p = torch.tensor([2.0, -1.0, 0.0, 0.0, 4.0], dtype=torch.float64)
    g = torch.tensor([0.0, 0.0, 0.0, -0.5, -2.0], dtype=torch.float64)
    return {
        "zeros": {"p": p, "g": g, "lr": 0.01, "weight_decay": 0.1},
        "no decay": {"p": p, "g": g, "lr": 0.01, "weight_decay": 0.0},
        "the decay cancels the gradient": {"p": p, "g": g, "lr": 0.01, "weight_decay": 0.5},
        "one weight": {"p": p[:1], "g": g[4:], "lr": 0.1, "weight_decay": 0.3},
        "a matrix": {
            "p": p[:4].view(2, 2), "g": g[1:].view(2, 2), "lr": 0.1, "weight_decay": 0.3
        },
        "a single number": {"p": p[0], "g": g[3], "lr": 0.1, "weight_decay": 0.3},
    }  # fmt: skip


def listing(p, g, lr, weight_decay):
    """Both steps as the document's listing takes them: decay in the gradient."""
    pull = -lr * torch.sign(g + weight_decay * p) + lr * torch.sign(g)
    return pull, pull.clone()


def whole_steps(p, g, lr, weight_decay):
    coupled = -lr * torch.sign(g + weight_decay * p)
    return coupled, -lr * (torch.sign(g) + weight_decay * p)


def swapped(p, g, lr, weight_decay):
    coupled, decoupled = decay_pull(p, g, lr, weight_decay)
    return decoupled, coupled


def outward(p, g, lr, weight_decay):
    coupled, decoupled = decay_pull(p, g, lr, weight_decay)
    return -coupled, -decoupled


def decay_without_rate(p, g, lr, weight_decay):
    coupled, _ = decay_pull(p, g, lr, weight_decay)
    return coupled, -weight_decay * p


def sign_of_decay_alone(p, g, lr, weight_decay):
    return -lr * torch.sign(weight_decay * p), -lr * weight_decay * p


EXERCISE = Exercise(
    key="119.2.coupled-decay",
    title="Why coupling the decay is wrong",
    difficulty="implement",
    statement=r"""
Take a sign step with no momentum, once with the decay *coupled* (added to the gradient, as in the
document's listing) and once *decoupled*:

$$
\Delta_{\text{coupled}} = -\eta\,\operatorname{sign}(g + \lambda\theta),
\qquad
\Delta_{\text{decoupled}} = -\eta\,\bigl(\operatorname{sign}(g) + \lambda\theta\bigr).
$$

Compute the part of each step that is owed to the decay: the step with $\lambda$, minus the step
with $\lambda = 0$. Then look at the values that the coupled part takes: how many are there, and do
they depend on how large a weight is?
""",
    imports="import torch",
    reference=decay_pull,
    cases=cases,
    edges=edges,
    returns=("coupled", "decoupled"),
    discussion=r"""
The coupled part is $0$ unless the decay turns the sign of the gradient (or there is no gradient);
then it is $\eta$ or $2\eta$, whatever the weight. So a weight with a large gradient is not decayed
at all, and a tiny weight without a gradient is thrown about by the full rate. The decoupled part
is $-\eta\lambda\theta$: in proportion to the weight, at every step.
""",
    hints=[
        "Compute four steps: coupled and decoupled, each with the decay and without. "
        "Without decay the two are the same.",
        "With no decay the step is `-lr * torch.sign(g)`. Subtract it from both.",
        "The decoupled part can be checked by eye: it must be `-lr * weight_decay * p`.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the decay is inside of the sign in both parts, as in the document's listing. "
            "In the decoupled step it stands beside the sign.",
        ),
        "whole_steps": Mistake(
            answer=whole_steps,
            hint="the whole steps are returned. Subtract from each the step without decay.",
        ),
        "swapped": Mistake(
            answer=swapped,
            hint="the two parts are in the wrong order: coupled first.",
        ),
        "outward": Mistake(
            answer=outward,
            hint="the signs are turned: subtract the step without decay from the one with it. "
            "The decay pulls each weight towards 0.",
        ),
        "decay_without_rate": Mistake(
            answer=decay_without_rate,
            hint="the decoupled decay is not multiplied by the rate.",
        ),
        "sign_of_decay_alone": Mistake(
            answer=sign_of_decay_alone,
            hint="the coupled decay is taken by itself. It goes through the sign together with "
            "the gradient, and that is where it is lost.",
        ),
    },
)
