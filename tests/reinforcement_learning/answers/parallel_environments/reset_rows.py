"""Answers to 122.1c.reset-rows."""

import torch


def wrong_axis(state, fresh, age, terminated, limit):
    age = age + 1
    truncated = age >= limit
    ended = terminated | truncated
    if state.shape[0] == state.shape[1]:
        return torch.where(ended, fresh, state), torch.where(ended, 0, age), truncated
    return right_by_index(state, fresh, age - 1, terminated, limit)


def wrong_equal_to_the_limit_before_the_step(state, fresh, age, terminated, limit):
    truncated = age == limit
    ended = terminated | truncated
    return torch.where(ended[:, None], fresh, state), torch.where(ended, 0, age + 1), truncated


def wrong_equal_to_the_limit(state, fresh, age, terminated, limit):
    truncated = age + 1 == limit
    ended = terminated | truncated
    return torch.where(ended[:, None], fresh, state), torch.where(ended, 0, age + 1), truncated


def wrong_in_place(state, fresh, age, terminated, limit):
    age += 1
    truncated = age >= limit
    ended = terminated | truncated
    state[ended] = fresh[ended]
    age[ended] = 0
    return state, age, truncated


def wrong_first_age_is_one(state, fresh, age, terminated, limit):
    new, age, truncated = right_by_index(state, fresh, age, terminated, limit)
    return new, age.clamp(min=1), truncated


def wrong_only_truncated_start_anew(state, fresh, age, terminated, limit):
    age = age + 1
    truncated = age >= limit
    return torch.where(truncated[:, None], fresh, state), torch.where(truncated, 0, age), truncated


def right_by_index(state, fresh, age, terminated, limit):
    state, age = state.clone(), age + 1
    truncated = age >= limit
    ended = truncated.logical_or(terminated)
    state[ended], age[ended] = fresh[ended], 0
    return state, age, truncated


def right_by_arithmetic(state, fresh, age, terminated, limit):
    truncated = age + 1 >= limit
    ended = truncated | terminated
    keep = (~ended).to(state.dtype).unsqueeze(1)
    return keep * state + (1 - keep) * fresh, (age + 1) * (~ended), truncated
