"""Answers to 123.3.adjusted."""

import numpy as np


def wrong_divides_by_m(p):
    order = np.argsort(p)
    q = np.empty(len(p))
    q[order] = np.minimum.accumulate((p[order] * np.arange(1, len(p) + 1))[::-1])[::-1]
    return q


def wrong_argsort_is_no_rank(p):
    m = len(p)
    return np.minimum(1.0, m * p / (np.argsort(p) + 1))


def wrong_ranks_from_the_largest(p):
    m, order = len(p), np.argsort(-p)
    q = np.empty(m)
    q[order] = np.minimum.accumulate((m * p[order] / np.arange(1, m + 1))[::-1])[::-1]
    return np.minimum(1.0, q)


def wrong_gathers_where_it_should_scatter(p):
    m, order = len(p), np.argsort(p)
    q = np.minimum.accumulate((m * p[order] / np.arange(1, m + 1))[::-1])[::-1]
    return q[order]


def wrong_holm(p):
    m, order = len(p), np.argsort(p)
    q = np.empty(m)
    q[order] = np.minimum(1.0, np.maximum.accumulate((m - np.arange(m)) * p[order]))
    return q


def right_by_the_definition(p):
    s, m = np.sort(p), len(p)
    q = [min(m * s[j] / (j + 1) for j in range(m) if s[j] >= value) for value in p]
    return np.array(q, float)


def right_from_the_largest_down(p):
    q, least, m = np.empty(len(p)), 1.0, len(p)
    for rank, i in zip(range(m, 0, -1), np.argsort(p)[::-1]):
        least = min(least, p[i] * m / rank)
        q[i] = least
    return q
