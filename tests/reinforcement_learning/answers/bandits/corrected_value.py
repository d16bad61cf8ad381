"""Answers to 122.2b.corrected-value."""

import numpy as np


def wrong_self_normalized(rewards, arms, propensities, target, model):
    rows = np.arange(len(arms))
    w = target[rows, arms] / propensities
    value = (target * model).sum(1).mean()
    return float(value + (w * (rewards - model[rows, arms])).sum() / max(w.sum(), 1e-12))


def wrong_upside_down(rewards, arms, propensities, target, model):
    rows = np.arange(len(arms))
    w = propensities / np.maximum(target[rows, arms], 1e-12)
    return float(np.mean((target * model).sum(1) + w * (rewards - model[rows, arms])))


def wrong_plain_mean_of_the_model(rewards, arms, propensities, target, model):
    rows = np.arange(len(arms))
    w = target[rows, arms] / propensities
    return float(np.mean(model.mean(1) + w * (rewards - model[rows, arms])))


def wrong_columns_of_all_rows(rewards, arms, propensities, target, model):
    w = target[:, arms].mean(0) / propensities
    return float(np.mean((target * model).sum(1) + w * (rewards - model[:, arms].mean(0))))


def wrong_sums(rewards, arms, propensities, target, model):
    return len(rewards) * right_row_by_row(rewards, arms, propensities, target, model)


def right_row_by_row(rewards, arms, propensities, target, model):
    total = 0.0
    for r, a, p, pi, q in zip(rewards, arms, propensities, target, model):
        total += pi @ q + pi[a] / p * (r - q[a])
    return total / len(rewards)


def right_by_one_hot(rewards, arms, propensities, target, model):
    taken = np.eye(target.shape[1])[arms]
    w = (taken * target).sum(1) / propensities
    return np.mean(np.einsum("nk,nk->n", target, model) + w * (rewards - (taken * model).sum(1)))
