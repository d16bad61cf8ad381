"""Generalised advantage estimation for many environments side by side. Chapter 122, section 1c.

Schulman, Moritz, Levine, Jordan, Abbeel, "High-dimensional continuous control using generalized
advantage estimation", ICLR 2016.
"""

import torch
from torch import Tensor


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    lam: float,
) -> Tensor:
    """Advantages of T steps in N environments, (T, N): a sum of TD errors with weights (γλ)^l.

    δ_t = r_t + γ (1 − terminated_t) V(s'_t) − V(s_t)
    Â_t = δ_t + γλ (1 − terminated_t or truncated_t) Â_{t+1},   Â_T = 0

    ``next_values`` holds V of the state that the action *led to*: where an environment was reset,
    that of the last state of the old episode. So truncation (a time limit) bootstraps from the state
    that was reached, and termination (no future) does not. Either ends the sum.

    All tensors are (T, N) of one device; ``terminated`` and ``truncated`` are bool. Schulman et al.
    2016, equation 16. Pardo, Tavakoli, Levdik, Kormushev, "Time limits in reinforcement learning",
    ICML 2018, say why truncation is no termination.

    Raises ValueError for unlike shapes, values that aren't finite, and γ or λ outside [0, 1]; a
    TypeError for flags that aren't bool.
    """
    check_gae(gamma, lam)
    named = {
        "rewards": rewards,
        "values": values,
        "next_values": next_values,
        "terminated": terminated,
        "truncated": truncated,
    }
    for name, x in named.items():
        if x.ndim != 2 or x.shape != rewards.shape:
            raise ValueError(
                f"{name} must have the shape (steps, environments) of rewards, "
                f"{tuple(rewards.shape)}; got {tuple(x.shape)}"
            )
    for name in ("terminated", "truncated"):
        if named[name].dtype != torch.bool:
            raise TypeError(f"{name} must be of dtype bool, got {named[name].dtype}")
    for name in ("rewards", "values"):
        if not named[name].isfinite().all():
            raise ValueError(f"{name} must be finite; look for the step that made it NaN or infinite")
    if not next_values[~terminated].isfinite().all():
        raise ValueError("next_values must be finite wherever the episode has not terminated")

    # where, not a product: the value after a termination may be anything, NaN too.
    future = torch.where(terminated, torch.zeros_like(next_values), next_values)  # (T, N)
    delta = rewards + gamma * future - values  # (T, N)
    goes_on = (~(terminated | truncated)).to(rewards.dtype)  # (T, N)
    advantages = torch.empty_like(delta)
    last = torch.zeros_like(delta[0]) if len(delta) else None  # (N,)
    for t in reversed(range(len(delta))):
        last = delta[t] + gamma * lam * goes_on[t] * last
        advantages[t] = last
    return advantages


def check_gae(gamma: float, lam: float) -> None:
    """Refuses a discount or a decay outside [0, 1]."""
    for name, x in (("gamma", gamma), ("lam", lam)):
        if not 0 <= x <= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {x}")
