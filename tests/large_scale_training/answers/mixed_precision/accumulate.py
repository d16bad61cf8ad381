"""Answers to 119.1c.accumulate."""

import numpy as np
import torch


def wrong_weight_by_index(old, grads, counts):
    """``index`` finds the first size of its kind."""
    weights = [counts[counts.index(c)] for c in counts]
    total = np.zeros_like(old)
    for c in counts:
        total += grads[counts.index(c)] * c / sum(weights)
    return total


def wrong_sizes_as_a_set(old, grads, counts):
    return sum(g * n for g, n in zip(grads, counts, strict=True)) / sum(set(counts))


def wrong_erases_by_multiplying(old, grads, counts):
    with np.errstate(invalid="ignore"):
        total = 0.0 * old
    for g, n in zip(grads, counts, strict=True):
        total = total + g * n / sum(counts)
    return total


def wrong_inverse_weights(old, grads, counts):
    weights = [1 / n for n in counts]
    return sum(g * w for g, w in zip(grads, weights, strict=True)) / sum(weights)


def wrong_running_mean(old, grads, counts):
    total = np.zeros_like(old)
    for g, n in zip(grads, counts, strict=True):
        total = (total + g * n) / n
    return total


def wrong_adds_into_the_old(old, grads, counts):
    with np.errstate(invalid="ignore"):
        old *= 0
    for g, n in zip(grads, counts, strict=True):
        old += g * n / sum(counts)
    return old


def wrong_scales_its_arguments(old, grads, counts):
    for g, n in zip(grads, counts, strict=True):
        g *= n / sum(counts)
    return sum(grads)


def wrong_a_tensor(old, grads, counts):
    return torch.from_numpy(right_as_a_product(old, grads, counts))


def wrong_normalised_by_the_largest(old, grads, counts):
    return sum(g * n for g, n in zip(grads, counts, strict=True)) / (max(counts) * len(counts))


def wrong_for_vectors_alone(old, grads, counts):
    """``@`` takes the last axis but one: the wrong one of a gradient that is a matrix."""
    return np.asarray(counts) @ np.stack(grads) / np.sum(counts)


def right_as_a_product(old, grads, counts):
    return np.tensordot(counts, np.stack(grads), axes=1) / np.sum(counts)


def right_by_numpy(old, grads, counts):
    return np.average(grads, axis=0, weights=counts)
