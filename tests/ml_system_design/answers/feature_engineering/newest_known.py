"""Answers to 123.1.newest-known."""

import numpy as np


def wrong_oldest(now, entity, times, entities, values, delay):
    known = (entities == entity) & (times + delay <= now)
    return float(values[known][np.argmin(times[known])]) if known.any() else float("nan")


def wrong_delay_turned(now, entity, times, entities, values, delay):
    known = (entities == entity) & (times - delay <= now)
    return float(values[known][np.argmax(times[known])]) if known.any() else float("nan")


def wrong_zero_for_nothing(now, entity, times, entities, values, delay):
    known = (entities == entity) & (times + delay <= now)
    return float(values[known][np.argmax(times[known])]) if known.any() else 0.0


def wrong_index_of_the_subset(now, entity, times, entities, values, delay):
    known = (entities == entity) & (times + delay <= now)
    return float(values[np.argmax(times[known])]) if known.any() else float("nan")


def right_by_a_loop(now, entity, times, entities, values, delay):
    best, found = -np.inf, float("nan")
    for s, e, v in zip(times, entities, values):
        if e == entity and s + delay <= now and s > best:
            best, found = s, float(v)
    return found
