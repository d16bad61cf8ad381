"""Answers to 123.3.stability."""

import numpy as np


def counts(values, edges):
    return np.array([(np.searchsorted(edges, values) == b).sum() for b in range(len(edges) + 1)])


def wrong_smooths_the_shares(reference, current, edges, smoothing):
    p, q = (counts(v, edges) / len(v) + smoothing for v in (reference, current))
    return float(((q - p) * np.log(q / p)).sum())


def wrong_drops_empty_bins(reference, current, edges, smoothing):
    p, q = (counts(v, edges) / len(v) for v in (reference, current))
    both = (p > 0) & (q > 0)
    return float(((q - p)[both] * np.log(q[both] / p[both])).sum())


def wrong_mean_over_bins(reference, current, edges, smoothing):
    return right_both_ways(reference, current, edges, smoothing) / (len(edges) + 1)


def wrong_two_bits(reference, current, edges, smoothing):
    return right_both_ways(reference, current, edges, smoothing) / np.log(2)


def wrong_divides_by_the_rows(reference, current, edges, smoothing):
    p, q = ((counts(v, edges) + smoothing) / len(v) for v in (reference, current))
    return float(((q - p) * np.log(q / p)).sum())


def right_both_ways(reference, current, edges, smoothing):
    p, q = (counts(v, edges) + smoothing for v in (reference, current))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(q * np.log(q / p)) + np.sum(p * np.log(p / q)))


def right_bin_by_bin(reference, current, edges, smoothing):
    total, k = 0.0, len(edges) + 1
    for a, b in zip(counts(reference, edges), counts(current, edges)):
        p = (a + smoothing) / (len(reference) + k * smoothing)
        q = (b + smoothing) / (len(current) + k * smoothing)
        total += (q - p) * np.log(q / p)
    return total
