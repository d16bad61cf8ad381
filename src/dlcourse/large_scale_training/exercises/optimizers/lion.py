"""119.2: one step of Lion, written out."""

import torch

from dlcourse.exercises import Exercise, Mistake


def lion_step(p, g, m, lr, beta1, beta2, weight_decay):
    """Return the parameters and the momentum after one step of Lion, two new tensors.

    p, g, m: parameters, gradient and momentum, tensors of one shape;
    leave them as they are.
    """
    # The direction: an interpolation with beta1, of which only the sign is kept.
    direction = torch.sign(beta1 * m + (1 - beta1) * g)
    # The decay acts on p itself, so its size survives the sign.
    p_new = p - lr * (direction + weight_decay * p)
    # The momentum that is kept: another interpolation, with beta2.
    m_new = beta2 * m + (1 - beta2) * g
    return p_new, m_new


def cases(rng):
    """Parameters of one to three dimensions; sometimes no decay, sometimes a first step."""
    shape = tuple(int(n) for n in rng.integers(2, 5, size=rng.integers(1, 4)))
    p, g, m = (torch.from_numpy(rng.standard_normal(shape)) for _ in range(3))
    return {
        "p": p,
        "g": g,
        "m": torch.zeros_like(m) if rng.random() < 0.2 else m,
        "lr": float(10 ** rng.uniform(-3, -1)),
        "beta1": float(rng.uniform(0.6, 0.95)),
        "beta2": float(rng.uniform(0.96, 0.999)),
        "weight_decay": 0.0 if rng.random() < 0.2 else float(rng.uniform(0.1, 1.0)),
    }


def edges():
    """Where the direction is 0 or tiny, and a single number; no rate, no decay, the first step."""
    p = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    g = torch.tensor([0.0, 0.5, 0.0], dtype=torch.float64)
    m = torch.tensor([0.0, -0.5, 0.3], dtype=torch.float64)
    usual = {"p": p, "g": g, "m": m, "lr": 0.01, "beta1": 0.5, "beta2": 0.99, "weight_decay": 0.3}
    return {
        "the direction is 0": usual,
        "no gradient and no momentum": {**usual, "g": 0 * g, "m": 0 * m},
        "the first step": {**usual, "m": 0 * m, "g": p},
        "no decay": {**usual, "weight_decay": 0.0},
        "tiny gradients": {**usual, "g": 1e-30 * p, "m": -1e-30 * m},
        "a rate of 0": {**usual, "lr": 0.0},
        "a single number": {**usual, "p": p[1], "g": g[1], "m": m[2]},
    }


def listing(p, g, m, lr, beta1, beta2, weight_decay):
    """The document's step: decay in the gradient, one beta for both."""
    g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    return p - lr * torch.sign(m), m


def one_beta(p, g, m, lr, beta1, beta2, weight_decay):
    m_new = beta1 * m + (1 - beta1) * g
    return p - lr * (torch.sign(m_new) + weight_decay * p), m_new


def betas_swapped(p, g, m, lr, beta1, beta2, weight_decay):
    return lion_step(p, g, m, lr, beta2, beta1, weight_decay)


def momentum_first(p, g, m, lr, beta1, beta2, weight_decay):
    m_new = beta2 * m + (1 - beta2) * g
    direction = torch.sign(beta1 * m_new + (1 - beta1) * g)
    return p - lr * (direction + weight_decay * p), m_new


def no_sign(p, g, m, lr, beta1, beta2, weight_decay):
    direction = beta1 * m + (1 - beta1) * g
    return p - lr * (direction + weight_decay * p), beta2 * m + (1 - beta2) * g


def zero_has_a_sign(p, g, m, lr, beta1, beta2, weight_decay):
    c = beta1 * m + (1 - beta1) * g
    direction = torch.where(c >= 0, 1.0, -1.0).to(p.dtype)
    return p - lr * (direction + weight_decay * p), beta2 * m + (1 - beta2) * g


def decay_without_rate(p, g, m, lr, beta1, beta2, weight_decay):
    direction = torch.sign(beta1 * m + (1 - beta1) * g)
    return p - lr * direction - weight_decay * p, beta2 * m + (1 - beta2) * g


def changes_its_arguments(p, g, m, lr, beta1, beta2, weight_decay):
    direction = torch.sign(beta1 * m + (1 - beta1) * g)
    p.sub_(lr * (direction + weight_decay * p))
    m.mul_(beta2).add_(g, alpha=1 - beta2)
    return p, m


EXERCISE = Exercise(
    key="119.2.lion",
    title="One step of Lion",
    difficulty="implement",
    statement=r"""
Write one step of Lion. With the gradient $g_t$, the momentum $m_{t-1}$, the rate $\eta$ and the
decay $\lambda$,

$$
\begin{aligned}
c_t &= \beta_1 m_{t-1} + (1-\beta_1)\, g_t, \\
\theta_t &= \theta_{t-1} - \eta\,\bigl(\operatorname{sign}(c_t) + \lambda\,\theta_{t-1}\bigr), \\
m_t &= \beta_2 m_{t-1} + (1-\beta_2)\, g_t .
\end{aligned}
$$

The sign of 0 is 0. Your function returns two new tensors, $\theta_t$ and $m_t$, and leaves its
arguments as they are.
""",
    imports="import torch",
    reference=lion_step,
    cases=cases,
    edges=edges,
    returns_new=True,
    returns=("p_new", "m_new"),
    hints=[
        "Three lines are enough, one for each equation. Compute all of them from the old `m`.",
        "`c` and the new `m` are two different averages: `c` uses beta1 and is thrown away, "
        "`m` uses beta2 and is kept.",
        "The decay multiplies the old `p`, and is multiplied by `lr`, outside of the sign.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the decay is added to the gradient, and one average serves as direction and as "
            "momentum: that is the document's listing. The sign then swallows the size of the "
            "decay, and beta2 has no effect.",
        ),
        "one_beta": Mistake(
            answer=one_beta,
            hint="the average for the sign is also kept as the momentum. Keep another one, "
            "made with beta2.",
        ),
        "betas_swapped": Mistake(
            answer=betas_swapped,
            hint="the betas are swapped: beta1 belongs to the direction, beta2 to the momentum.",
        ),
        "momentum_first": Mistake(
            answer=momentum_first,
            hint="the momentum is updated before the direction is taken. The direction needs the "
            "old momentum: otherwise the gradient counts twice.",
        ),
        "no_sign": Mistake(
            answer=no_sign,
            hint="the sign is missing: in Lion each coordinate moves by the same amount.",
        ),
        "zero_has_a_sign": Mistake(
            answer=zero_has_a_sign,
            hint="the sign of 0 is taken for 1 or -1. It is 0: a weight without gradient and "
            "momentum stays where it is. `torch.sign` knows.",
        ),
        "decay_without_rate": Mistake(
            answer=decay_without_rate,
            hint="the decay is not multiplied by the rate: the weights would shrink at full "
            "strength even when a schedule brings the rate to zero.",
        ),
        "changes_its_arguments": Mistake(
            answer=changes_its_arguments,
            hint="in-place operations such as `p.sub_` write into the caller's tensors. Return "
            "new ones: `p - ...`.",
        ),
    },
)
