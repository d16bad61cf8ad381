"""Answers to 124.1a.threshold."""

import math

import numpy as np


def wrong_rounds(scores, labels, sensitivity):
    sick = np.sort(scores[labels == 1])
    return float(sick[min(round(len(sick) * (1 - sensitivity)), len(sick) - 1)])


def wrong_rounds_up(scores, labels, sensitivity):
    sick = np.sort(scores[labels == 1])
    return float(sick[min(math.ceil(len(sick) * (1 - sensitivity)), len(sick) - 1)])


def wrong_specificity(scores, labels, sensitivity):
    well = np.sort(scores[labels == 0])
    return float(well[int(len(well) * sensitivity) - 1]) if len(well) else 0.0


def wrong_strictly_above(scores, labels, sensitivity):
    sick = scores[labels == 1]
    good = [t for t in sick if np.mean(sick > t) >= sensitivity]
    return float(max(good)) if good else float(sick.min())


def wrong_smallest(scores, labels, sensitivity):
    return float(scores[labels == 1].min())


def right_by_trying(scores, labels, sensitivity):
    sick = scores[labels == 1]
    return float(max(t for t in sick if np.mean(sick >= t) >= sensitivity - 1e-12))


def right_from_above(scores, labels, sensitivity):
    sick = sorted((float(s) for s, y in zip(scores, labels) if y == 1), reverse=True)
    needed = math.ceil(sensitivity * len(sick) - 1e-9)
    return sick[needed - 1]
