"""Answers to 123.2c.waiting-share."""

import math


def wrong_target_of_seventy_percent(rate, mean, most):
    n = math.ceil(rate * mean / 0.7)
    return n, float(right_by_factorials(rate, mean, most)[1])


def wrong_order(rate, mean, most):
    n, wait = right_by_factorials(rate, mean, most)
    return wait, n


def wrong_share_instead_of_time(rate, mean, most):
    n, wait = right_by_factorials(rate, mean, most)
    return n, wait / mean


def wrong_sojourn_is_bounded(rate, mean, most):
    n = math.floor(rate * mean) + 1
    while n < 10_000 and _wait(n, rate * mean, mean) + mean > max(most, 1.01 * mean):
        n += 1
    return n, float(_wait(n, rate * mean, mean))


def _wait(n, load, mean):
    # C = 1 / (1 + (1 − ρ) Σ_k n!/k! load^{k−n}), from the largest k down
    total, term = 0.0, 1.0
    for k in range(n - 1, -1, -1):
        term *= (k + 1) / load
        total += term
    share = 1 / (1 + (1 - load / n) * total)
    return share * mean / (n - load)


def right_by_factorials(rate, mean, most):
    n = math.floor(rate * mean) + 1
    while _wait(n, rate * mean, mean) > most:
        n += 1
    return n, float(_wait(n, rate * mean, mean))
