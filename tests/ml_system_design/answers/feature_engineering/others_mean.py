"""Answers to 123.1.others-mean."""

import numpy as np


def wrong_prior_of_the_category(categories, targets, m):
    same = categories[:, None] == categories
    return (same @ targets - targets + m * (same @ targets) / same.sum(1)) / (same.sum(1) - 1 + m)


def wrong_divides_by_n(categories, targets, m):
    same = categories[:, None] == categories
    prior = (targets.sum() - targets) / len(targets)
    return (same @ targets - targets + m * prior) / (same.sum(1) - 1 + m)


def wrong_weights_swapped(categories, targets, m):
    same = categories[:, None] == categories
    count = same.sum(1) - 1
    prior = (targets.sum() - targets) / (len(targets) - 1)
    mean = (same @ targets - targets) / np.maximum(count, 1)
    share = m / (count + m)
    return share * mean + (1 - share) * prior


def right_row_by_row(categories, targets, m):
    made = []
    for i in range(len(targets)):
        others = np.delete(targets, i)
        mine = others[np.delete(categories, i) == categories[i]]
        made.append((mine.sum() + m * others.mean()) / (len(mine) + m))
    return np.array(made)
