"""Answers to 122.2b.effective-rows."""

import numpy as np


def weights(propensities, target, clip):
    return np.clip(target / propensities, 0, np.inf if clip is None else clip)


def wrong_squares_upside_down(propensities, target, clip):
    w = weights(propensities, target, clip)
    return float((w**2).sum() / w.sum() ** 2) if w.any() else 0.0


def wrong_without_zero(propensities, target, clip):
    w = weights(propensities, target, clip)
    with np.errstate(invalid="ignore"):
        return float(w.sum() ** 2 / (w**2).sum())


def wrong_counts_positive_weights(propensities, target, clip):
    return float((weights(propensities, target, clip) > 0).sum())


def wrong_over_the_largest(propensities, target, clip):
    w = weights(propensities, target, clip)
    return float(w.sum() / w.max()) if w.any() else 0.0


def wrong_clips_propensities(propensities, target, clip):
    w = target / (propensities if clip is None else np.maximum(propensities, 1 / max(clip, 1e-9)))
    return float(w.sum() ** 2 / (w**2).sum()) if w.any() else 0.0


def wrong_if_clip(propensities, target, clip):
    w = target / propensities
    if clip:
        w = np.minimum(w, clip)
    return float(w.sum() ** 2 / (w**2).sum()) if w.any() else 0.0


def right_by_moments(propensities, target, clip):
    w = weights(propensities, target, clip)
    return float(len(w) * w.mean() ** 2 / (w**2).mean()) if w.any() else 0.0


def right_by_shares(propensities, target, clip):
    w = weights(propensities, target, clip)
    if w.sum() == 0:
        return 0.0
    share = w / w.sum()
    return 1 / float(share @ share)
