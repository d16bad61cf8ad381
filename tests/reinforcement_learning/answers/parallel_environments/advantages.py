"""Answers to 122.1c.advantages."""

import torch


def wrong_forwards(rewards, values, next_values, terminated, truncated, gamma, lam):
    future = next_values.masked_fill(terminated, 0.0)
    delta = rewards + gamma * future - values
    on = ~(terminated | truncated)
    out, last = torch.empty_like(delta), torch.zeros_like(delta[0])
    for t in range(len(delta)):
        last = delta[t] + gamma * lam * on[t] * last
        out[t] = last
    return out


def wrong_infinity_times_zero(rewards, values, next_values, terminated, truncated, gamma, lam):
    delta = rewards + gamma * next_values * (~terminated) - values
    return _sum(delta, ~(terminated | truncated), gamma * lam)


def wrong_clamped_times_zero(rewards, values, next_values, terminated, truncated, gamma, lam):
    delta = rewards + gamma * next_values.clamp(-1e6, 1e6) * (~terminated) - values
    return _sum(delta, ~(terminated | truncated), gamma * lam)


def wrong_nan_times_zero(rewards, values, next_values, terminated, truncated, gamma, lam):
    future = torch.where(next_values.isinf(), 0.0, next_values) * (~terminated)
    return _sum(rewards + gamma * future - values, ~(terminated | truncated), gamma * lam)


def wrong_next_row_in_place_of_reached(
    rewards, values, next_values, terminated, truncated, gamma, lam
):
    future = torch.cat([values[1:], next_values[-1:]]).masked_fill(terminated, 0.0)
    return _sum(rewards + gamma * future - values, ~(terminated | truncated), gamma * lam)


def wrong_exclusive_or(rewards, values, next_values, terminated, truncated, gamma, lam):
    future = next_values.masked_fill(terminated, 0.0)
    return _sum(rewards + gamma * future - values, ~(terminated ^ truncated), gamma * lam)


def wrong_limit_before_end(rewards, values, next_values, terminated, truncated, gamma, lam):
    future = next_values.masked_fill(terminated & ~truncated, 0.0)
    return _sum(rewards + gamma * future - values, ~(terminated | truncated), gamma * lam)


def right_with_where(rewards, values, next_values, terminated, truncated, gamma, lam):
    future = torch.where(terminated, torch.zeros_like(values), next_values)
    return _sum(rewards + gamma * future - values, ~(terminated | truncated), gamma * lam)


def right_by_lambda_returns(rewards, values, next_values, terminated, truncated, gamma, lam):
    """The return mixes the value of the next state with the return from there on."""
    future = next_values.masked_fill(terminated, 0.0)
    ended, out, ahead = terminated | truncated, torch.empty_like(rewards), future[-1]
    for t in reversed(range(len(rewards))):
        mixed = torch.where(ended[t], future[t], (1 - lam) * future[t] + lam * ahead)
        out[t] = ahead = rewards[t] + gamma * mixed
    return out - values


def right_by_lambda_returns_over_rows(
    rewards, values, next_values, terminated, truncated, gamma, lam
):
    """As above, with values[t + 1] for the next state's value inside an episode."""
    future = next_values.masked_fill(terminated, 0.0)
    ended, out = terminated | truncated, rewards + gamma * future
    for t in reversed(range(len(rewards) - 1)):
        mixed = (1 - lam) * values[t + 1] + lam * out[t + 1]
        out[t] = torch.where(ended[t], out[t], rewards[t] + gamma * mixed)
    return out - values


def right_by_a_double_loop(rewards, values, next_values, terminated, truncated, gamma, lam):
    out = torch.zeros_like(rewards)
    for n in range(rewards.shape[1]):
        for t in range(len(rewards)):
            weight = 1.0
            for k in range(t, len(rewards)):
                after = 0.0 if terminated[k, n] else gamma * next_values[k, n]
                out[t, n] += weight * (rewards[k, n] + after - values[k, n])
                weight *= gamma * lam
                if terminated[k, n] or truncated[k, n]:
                    break
    return out


def _sum(delta, on, weight):
    out, last = torch.empty_like(delta), torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        last = delta[t] + weight * on[t] * last
        out[t] = last
    return out
