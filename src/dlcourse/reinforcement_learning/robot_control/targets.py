"""What a critic learns towards: the bootstrapped target (section 122.1a)."""

from __future__ import annotations

from torch import Tensor


def td_target(reward: Tensor, terminated: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """r + γ (1 − terminated) V(s'): all ``(B,)``.

    ``truncated`` is not an argument: where only the time was up, the task goes on, and V(s')
    counts (Pardo et al. 2018, section 3).

    Raises ValueError where the shapes differ: (B,) and (B, 1) would broadcast to (B, B).
    """
    if not reward.shape == terminated.shape == next_value.shape:
        raise ValueError(
            f"reward {tuple(reward.shape)}, terminated {tuple(terminated.shape)} and next_value "
            f"{tuple(next_value.shape)} must have one shape"
        )
    # Not (1 - terminated) * next_value: what a network says past an end may be NaN, and 0 * NaN too.
    return reward + gamma * next_value.masked_fill(terminated.bool(), 0)


def soft_value(q: Tensor, log_prob: Tensor, alpha: Tensor | float) -> Tensor:
    """min over critics of Q(s, a) − α log π(a|s): ``(n, B), (B,) -> (B,)``.

    One sample of the soft state value, equation 3 of Haarnoja et al. (2018b), with the minimum
    of Fujimoto et al. (2018).
    """
    return q.amin(0) - alpha * log_prob
