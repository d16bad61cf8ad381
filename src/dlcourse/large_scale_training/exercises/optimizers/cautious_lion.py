"""119.2: extend Lion by the mask of the cautious optimizers."""

import torch

from dlcourse.exercises import Exercise, Mistake


def cautious_lion_step(p, g, m, lr, beta1, beta2, weight_decay):
    """Return the parameters and the momentum after one step of cautious Lion.

    p, g, m: parameters, gradient and momentum, tensors of one shape;
    leave them as they are.
    """
    direction = torch.sign(beta1 * m + (1 - beta1) * g)
    # Keep the coordinates in which the step goes downhill for this very gradient ...
    mask = (direction * g > 0).to(p.dtype)
    # ... and make the others' share up, but never more than a thousandfold.
    direction = direction * mask / mask.mean().clamp(min=1e-3)
    p_new = p - lr * (direction + weight_decay * p)
    m_new = beta2 * m + (1 - beta2) * g
    return p_new, m_new


def cases(rng):
    """Gradients that agree with the momentum in some coordinates; in a few cases in none."""
    n = int(rng.integers(6, 20))
    p, g, m = (torch.from_numpy(rng.standard_normal(n)) for _ in range(3))
    if rng.random() < 0.15:
        m = -20 * g  # no coordinate agrees: the mean of the mask is 0
    return {
        "p": p,
        "g": g,
        "m": m,
        "lr": float(10 ** rng.uniform(-3, -1)),
        "beta1": float(rng.uniform(0.6, 0.95)),
        "beta2": float(rng.uniform(0.96, 0.999)),
        "weight_decay": float(rng.uniform(0.1, 1.0)),
    }


def edges():
    """Zeros; none, all, or one of thousands of the coordinates agree; one coordinate; a matrix."""
    p = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    g = torch.tensor([0.3, -0.1, 0.0, 0.0], dtype=torch.float64)
    m = torch.tensor([0.2, 0.4, 0.5, 0.0], dtype=torch.float64)
    rest = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.5}
    many = torch.linspace(-1.0, 1.0, 4000, dtype=torch.float64)
    against = -20 * many  # the direction follows this momentum, except where it is turned
    against[0] *= -1
    return {
        "zeros in gradient and momentum": {"p": p, "g": g, "m": m, **rest},
        "no coordinate agrees": {"p": p, "g": p, "m": -20 * p, **rest},
        "all coordinates agree": {"p": p, "g": p, "m": p, **rest},
        "one of 4,000 coordinates agrees": {"p": many, "g": many, "m": against, **rest},
        "no gradient at all": {"p": p, "g": torch.zeros_like(p), "m": m, **rest},
        "one coordinate": {"p": p[:1], "g": g[:1], "m": m[:1], **rest},
        "a matrix": {"p": p.view(2, 2), "g": g.flip(0).view(2, 2), "m": m.view(2, 2), **rest},
    }


def _step(p, g, m, lr, beta1, beta2, weight_decay, masked):
    direction = torch.sign(beta1 * m + (1 - beta1) * g)
    p_new = p - lr * (masked(direction) + weight_decay * p)
    return p_new, beta2 * m + (1 - beta2) * g


def listing(p, g, m, lr, beta1, beta2, weight_decay):
    """The document's Lion, with the mask put on top."""
    g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    mask = (m * g > 0).to(p.dtype)
    return p - lr * torch.sign(m) * mask / mask.mean().clamp(min=1e-3), m


def not_rescaled(p, g, m, *rest):
    return _step(p, g, m, *rest, masked=lambda u: u * (u * g > 0))


def mask_from_momentum(p, g, m, *rest):
    mask = (m * g > 0).to(p.dtype)
    return _step(p, g, m, *rest, masked=lambda u: u * mask / mask.mean().clamp(min=1e-3))


def mask_turned(p, g, m, *rest):
    def masked(u):
        mask = (u * g < 0).to(p.dtype)
        return u * mask / mask.mean().clamp(min=1e-3)

    return _step(p, g, m, *rest, masked=masked)


def divided_by_zero(p, g, m, *rest):
    def masked(u):
        mask = (u * g > 0).to(p.dtype)
        return u * mask / mask.mean()

    return _step(p, g, m, *rest, masked=masked)


def bound_too_low(p, g, m, *rest):
    def masked(u):
        mask = (u * g > 0).to(p.dtype)
        return u * mask / mask.mean().clamp(min=1e-8)

    return _step(p, g, m, *rest, masked=masked)


def decay_masked(p, g, m, lr, beta1, beta2, weight_decay):
    direction = torch.sign(beta1 * m + (1 - beta1) * g)
    mask = (direction * g > 0).to(p.dtype)
    mask = mask / mask.mean().clamp(min=1e-3)
    p_new = p - lr * mask * (direction + weight_decay * p)
    return p_new, beta2 * m + (1 - beta2) * g


EXERCISE = Exercise(
    key="119.2.cautious-lion",
    title="A cautious Lion",
    difficulty="extend",
    statement=r"""
A cautious optimizer (Liang et al., 2024, *Cautious Optimizers*) drops those coordinates of a step
that go uphill for the gradient at hand, and scales the rest up. For Lion, with the direction
$u_t = \operatorname{sign}(c_t)$,

$$
\phi_t = \mathbb{1}[\,u_t \odot g_t > 0\,],
\qquad
\theta_t = \theta_{t-1} - \eta\left(
  \frac{u_t \odot \phi_t}{\max(\operatorname{mean}(\phi_t),\, 10^{-3})} + \lambda\,\theta_{t-1}
\right).
$$

The mean is over all coordinates of the tensor; decay and momentum are those of Lion. Extend your
step, then try it in the experiment above.
""",
    imports="import torch",
    reference=cautious_lion_step,
    cases=cases,
    edges=edges,
    returns=("p_new", "m_new"),
    hints=[
        "Begin with your step of Lion; only the direction changes.",
        "`(u * g > 0)` is a tensor of booleans: make it one of `p`'s dtype before taking a mean.",
        "When no coordinate agrees the mean is 0: `clamp(min=1e-3)` keeps the division finite.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the mask is put on the document's Lion, with its coupled decay and one beta. "
            "Begin with the corrected step.",
        ),
        "not_rescaled": Mistake(
            answer=not_rescaled,
            hint="the masked direction is not divided by the mean of the mask.",
        ),
        "mask_from_momentum": Mistake(
            answer=mask_from_momentum,
            hint="the mask compares the gradient with the momentum. It must compare it with the "
            "direction, which already has a share of the gradient.",
        ),
        "mask_turned": Mistake(
            answer=mask_turned,
            hint="the mask is turned round: keep the coordinates in which direction and gradient "
            "have the same sign, since the step is subtracted.",
        ),
        "divided_by_zero": Mistake(
            answer=divided_by_zero,
            hint="you divide by the mean of the mask, which is 0 if no coordinate agrees: bound "
            "it.",
        ),
        "bound_too_low": Mistake(
            answer=bound_too_low,
            hint="the bound keeps the division from failing, and no more. It is 1e-3 here, so that "
            "a coordinate that agrees alone among thousands is not made up a million times.",
        ),
        "decay_masked": Mistake(
            answer=decay_masked,
            hint="the decay is masked too. It must act on every coordinate, as in Lion.",
        ),
    },
)
