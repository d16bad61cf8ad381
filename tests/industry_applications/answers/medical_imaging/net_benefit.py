"""Answers to 124.1a.net-benefit."""

import numpy as np


def wrong_shares_of_each_class(probabilities, labels, t):
    treated = probabilities >= t
    sick, well = max((labels == 1).sum(), 1), max((labels == 0).sum(), 1)
    found, needless = (treated & (labels == 1)).sum(), (treated & (labels == 0)).sum()
    return float(found / sick - needless / well * t / (1 - t))


def wrong_divides_by_the_treated(probabilities, labels, t):
    treated = probabilities >= t
    n = max(treated.sum(), 1)
    found, needless = (treated & (labels == 1)).sum(), (treated & (labels == 0)).sum()
    return float(found / n - needless / n * t / (1 - t))


def wrong_adds_the_missed(probabilities, labels, t):
    treated = probabilities >= t
    found, missed = np.mean(treated & (labels == 1)), np.mean(~treated & (labels == 1))
    return float(found - missed * t / (1 - t))


def wrong_expected(probabilities, labels, t):
    p = probabilities[probabilities >= t]
    return float((p.sum() - (1 - p).sum() * t / (1 - t)) / len(labels))


def right_in_a_loop(probabilities, labels, t):
    total = 0.0
    for p, y in zip(probabilities, labels):
        if p >= t:
            total += 1 if y else -t / (1 - t)
    return total / len(labels)


def right_with_odds(probabilities, labels, t):
    chosen = labels[probabilities >= t]
    return float((chosen.sum() - (len(chosen) - chosen.sum()) / (1 / t - 1)) / len(labels))
