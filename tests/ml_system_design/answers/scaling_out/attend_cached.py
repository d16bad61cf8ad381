"""Answers to 123.2c.attend-cached."""

import numpy as np


def wrong_scores_zero_instead_of_minus_infinity(keys, values, length, q, k, v):
    _, keys, values = right_row_by_row(keys, values, length, q, k, v)
    scores = np.einsum("brd,bd->br", keys, q) / np.sqrt(q.shape[1])
    scores[np.arange(keys.shape[1]) > length[:, None]] = 0
    weights = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return np.einsum("br,brd->bd", weights, values), keys, values


def wrong_one_place_too_far(keys, values, length, q, k, v):
    return right_row_by_row(keys, values, np.minimum(length + 1, keys.shape[1] - 1), q, k, v)


def wrong_without_the_largest(keys, values, length, q, k, v):
    _, keys, values = right_row_by_row(keys, values, length, q, k, v)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = np.exp(np.einsum("brd,bd->br", keys, q) / np.sqrt(q.shape[1]))
        scores[np.arange(keys.shape[1]) > length[:, None]] = 0
        weights = scores / scores.sum(1, keepdims=True)
        return np.einsum("br,brd->bd", weights, values), keys, values


def wrong_values_at_the_end(keys, values, length, q, k, v):
    out, keys, _ = right_row_by_row(keys, values, length, q, k, v)
    values = values.copy()
    values[:, -1] = v
    return out, keys, values


def right_row_by_row(keys, values, length, q, k, v):
    keys, values, out = np.array(keys), np.array(values), []
    for r in range(len(q)):
        n = length[r]
        keys[r, n], values[r, n] = k[r], v[r]
        scores = keys[r, : n + 1] @ q[r] / len(q[r]) ** 0.5
        weights = np.exp(scores - scores.max())
        out.append(weights @ values[r, : n + 1] / weights.sum())
    return np.array(out), keys, values
