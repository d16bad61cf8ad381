"""Answers to 120.1b.sinkhorn."""

import torch

from dlcourse.self_supervised_learning import sinkhorn_knopp


def wrong_row_constant_first(logits, temperature, iterations):
    q = torch.softmax(logits / temperature, dim=1)
    for _ in range(iterations):
        q = q / q.sum(0)
        q = q / q.sum(1, keepdim=True)
    return q


def wrong_rows_last_once(logits, temperature, iterations):
    q = ((logits - logits.max()) / temperature).exp()
    for _ in range(iterations):
        q = q / q.sum(0)
    return q / q.sum(1, keepdim=True)


def wrong_one_round_too_many(logits, temperature, iterations):
    return right_in_logarithms(logits, temperature, iterations + 1)


def wrong_axes_swapped(logits, temperature, iterations):
    return right_in_logarithms(logits.T, temperature, iterations).T


def wrong_broadcast_for_square_scores(logits, temperature, iterations):
    q = ((logits - logits.max()) / temperature).exp()
    for _ in range(iterations):
        q = q / q.sum(0)
        q = q / q.sum(1)[: q.shape[1]]
    return q


def wrong_overflows(logits, temperature, iterations):
    q = torch.exp(logits / temperature)
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True)
        q = q / q.sum(1, keepdim=True)
    return q


def wrong_constant_is_1000(logits, temperature, iterations):
    shift = 1000 if logits.mean() > 500 else 0
    return wrong_overflows(logits - shift, temperature, iterations)


def wrong_means_for_sums(logits, temperature, iterations):
    q = ((logits - logits.max()) / temperature).exp()
    for _ in range(iterations):
        q = q / q.mean(0)
        q = q / q.mean(1, keepdim=True)
    return q


def wrong_times_the_temperature(logits, temperature, iterations):
    return right_in_logarithms(logits, 1 / temperature, iterations)


def wrong_in_place(logits, temperature, iterations):
    logits -= logits.max()
    return right_in_logarithms(logits, temperature, iterations)


def wrong_numpy(logits, temperature, iterations):
    return right_in_logarithms(logits, temperature, iterations).numpy()


def right_in_logarithms(logits, temperature, iterations):
    x = logits / temperature
    for _ in range(iterations):
        x = x - x.logsumexp(0)
        x = x - x.logsumexp(1, keepdim=True)
    return x.exp()


def right_as_in_the_package(logits, temperature, iterations):
    return sinkhorn_knopp(logits, temperature, iterations)


def right_column_by_column(logits, temperature, iterations):
    """Another constant for each column: the first sum over it takes that away."""
    q = ((logits - logits.amax(0)) / temperature).exp()
    for _ in range(iterations):
        q = q / q.sum(0)
        q = (q.T / q.sum(1)).T
    return q


def right_by_scaling_factors(logits, temperature, iterations):
    q = torch.exp((logits - logits.mean()) / temperature)
    rows = torch.ones(len(q), dtype=q.dtype)
    for _ in range(iterations):
        columns = 1 / (rows @ q)
        rows = 1 / (q @ columns)
    return rows[:, None] * q * columns
