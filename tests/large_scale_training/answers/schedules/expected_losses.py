"""Answers to 119.3.expected-losses."""

import numpy as np


def wrong_mean_of_the_weight_squared(rates, curvature, noise, start):
    w = start * np.cumprod(np.concatenate([[1.0], 1 - rates * curvature]))
    return 0.5 * curvature * w**2 + 0.5 * curvature * np.append(0.0, rates**2) * noise**2


def wrong_no_curvature_in_the_loss(rates, curvature, noise, start):
    return right_with_a_loop(rates, curvature, noise, start) / curvature


def wrong_no_half(rates, curvature, noise, start):
    return 2 * right_with_a_loop(rates, curvature, noise, start)


def wrong_noise_times_curvature(rates, curvature, noise, start):
    return right_with_a_loop(rates, curvature, noise * curvature, start)


def wrong_absolute_shrinking(rates, curvature, noise, start):
    """As if a step could not overshoot."""
    shrink = np.maximum(0.0, 1 - rates * curvature)
    squares = [start**2]
    for s, rate in zip(shrink, rates, strict=True):
        squares.append(s**2 * squares[-1] + rate**2 * noise**2)
    return 0.5 * curvature * np.array(squares)


def wrong_random_numbers(rates, curvature, noise, start):
    generator = np.random.default_rng(0)
    w = np.full(1000, float(start))
    losses = [0.5 * curvature * np.mean(w**2)]
    for rate in rates:
        w = w - rate * (curvature * w + noise * generator.standard_normal(1000))
        losses.append(0.5 * curvature * np.mean(w**2))
    return np.array(losses)


def wrong_first_rate_for_all(rates, curvature, noise, start):
    return right_with_a_loop(np.full_like(rates, rates[0] if len(rates) else 0), curvature, noise,
                             start)  # fmt: skip


def wrong_last_alone(rates, curvature, noise, start):
    return right_with_a_loop(rates, curvature, noise, start)[-1]


def wrong_a_list(rates, curvature, noise, start):
    return list(right_with_a_loop(rates, curvature, noise, start))


def wrong_one_too_few(rates, curvature, noise, start):
    return right_with_a_loop(rates, curvature, noise, start)[:-1]


def right_with_a_loop(rates, curvature, noise, start):
    losses = np.empty(len(rates) + 1)
    losses[0] = curvature * start * start / 2
    for k, rate in enumerate(rates):
        kept = losses[k] * (1 - rate * curvature) ** 2
        losses[k + 1] = kept + curvature * (rate * noise) ** 2 / 2
    return losses


def right_term_by_term(rates, curvature, noise, start):
    """Each noise is forgotten by the steps after it."""
    losses = []
    for k in range(len(rates) + 1):
        kept = np.prod((1 - rates[:k] * curvature) ** 2) * start**2
        for j in range(k):
            kept += rates[j] ** 2 * noise**2 * np.prod((1 - rates[j + 1 : k] * curvature) ** 2)
        losses.append(curvature * kept / 2)
    return np.array(losses)
