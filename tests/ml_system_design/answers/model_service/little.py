"""Answers to 123.2a.little."""

import numpy as np


def wrong_largest_number(arrived, answered):
    _, rate, took = right_by_the_law(arrived, answered)
    most = max(np.sum((arrived <= t) & (answered > t)) for t in arrived)
    return float(most), rate, took


def wrong_half_of_the_times(arrived, answered):
    number, rate, took = right_by_the_law(arrived, answered)
    return number / 2, rate, took


def wrong_one_gap_less(arrived, answered):
    span = answered.max() - arrived.min()
    took = (answered - arrived).mean()
    rate = (len(arrived) - 1) / span
    return float(rate * took), float(rate), float(took)


def wrong_order(arrived, answered):
    number, rate, took = right_by_the_law(arrived, answered)
    return number, took, rate


def right_by_the_law(arrived, answered):
    rate = len(arrived) / (max(answered) - min(arrived))
    took = np.mean(answered) - np.mean(arrived)
    return float(rate * took), float(rate), float(took)


def right_by_the_area(arrived, answered):
    times = np.unique(np.concatenate([arrived, answered]))
    middle = (times[1:] + times[:-1]) / 2
    inside = [np.sum((arrived < t) & (answered > t)) for t in middle]
    span = times[-1] - times[0]
    number = float(np.dot(inside, np.diff(times)) / span)
    rate = len(arrived) / span
    return number, float(rate), float(number / rate)
