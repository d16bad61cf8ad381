"""122.2a: discrete soft actor-critic's expectations (Christodoulou, 2019), as sums over items."""

import torch


def masked_log_policy(logits, allowed):
    """Return log pi (..., A); items that are not allowed get -inf. No item left: ValueError."""
    if allowed.dtype != torch.bool or allowed.shape != logits.shape:
        raise ValueError("allowed must be bool, of the shape of logits")
    if not allowed.any(-1).all():
        raise ValueError("no item is left for at least one user: end the session or add items")
    if not logits[allowed].isfinite().all():
        raise ValueError("logits must be finite where items are allowed")
    return logits.masked_fill(~allowed, -torch.inf).log_softmax(-1)


def soft_value(log_policy, q, temperature):
    """Return V = sum_a pi(a) (Q(a) - temperature log pi(a)) (...); 0 log 0 counts as 0."""
    there = log_policy > -torch.inf
    gain = torch.where(there, q - temperature * log_policy.masked_fill(~there, 0), 0.0)
    return (log_policy.exp() * gain).sum(-1)


def critic_target(reward, terminated, next_value, discount):
    """Return r + discount V(s') where the session goes on, and r at its end; no gradient.

    reward, terminated (bool) and next_value have one shape; another shape is a ValueError, since
    broadcasting would pair each reward with the values of other transitions.
    """
    if terminated.dtype != torch.bool or not reward.shape == terminated.shape == next_value.shape:
        raise ValueError(
            "reward, terminated (bool) and next_value need one shape, got "
            f"{tuple(reward.shape)}, {tuple(terminated.shape)} ({terminated.dtype}), "
            f"{tuple(next_value.shape)}"
        )
    return (reward + discount * torch.where(terminated, 0.0, next_value)).detach()


def policy_loss(log_policy, q, temperature):
    """Return minus the mean soft value, with Q as a constant: exact over the items."""
    return -soft_value(log_policy, q.detach(), temperature).mean()
