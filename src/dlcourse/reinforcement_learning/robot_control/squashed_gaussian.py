"""The squashed Gaussian: a normal number pushed through tanh, and its density (section 122.1a)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # as in the authors' code


def squashed_log_prob(u: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of ``a = tanh(u)``, where u is normal: ``(..., d) -> (...)``, in nats.

    Give it u, not a: the way back from a loses all digits near ±1. Haarnoja et al. (2018),
    appendix C, equation 21, in the form that does not overflow:
    log(1 − tanh² u) = 2 (log 2 − u − softplus(−2u)).
    """
    z = (u - mean) * torch.exp(-log_std)
    normal = -0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)  # log N(u; μ, σ²)
    slope = 2 * (math.log(2) - u - F.softplus(-2 * u))  # log da/du
    return (normal - slope).sum(-1)


def squashed_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions in (−1, 1) and their log-density: ``(..., d) -> (..., d), (...)``.

    Args:
        mean, log_std: of the normal variable before tanh.
        noise: standard normal numbers of the same shape. Gradients flow through mean and
            log_std (the reparametrisation trick).
    """
    u = mean + log_std.exp() * noise
    return torch.tanh(u), squashed_log_prob(u, mean, log_std)


def squashed_density(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Density of actions that are given, ``(..., d) -> (...)``: for plots, not for training.

    Raises ValueError for an action that is not strictly inside (−1, 1): the density lives there.
    """
    if not bool((action.abs() < 1).all()):
        raise ValueError("an action lies outside (-1, 1), where the squashed Gaussian lives")
    return squashed_log_prob(torch.atanh(action), mean, log_std).exp()
