"""Answers to 119.3.cosine-floor."""

import math

import numpy as np


def wrong_warmup_to_the_floor(step, warmup, total, floor):
    if step < warmup:
        return floor + (1 - floor) * step / warmup
    return right_with_bounds(step, warmup, total, floor)


def wrong_without_warmup_guard(step, warmup, total, floor):
    rise = step / warmup
    return rise if rise < 1 else right_with_bounds(step, warmup, total, floor)


def wrong_full_cosine(step, warmup, total, floor):
    if step < warmup:
        return step / warmup
    if step >= total:
        return floor
    p = (step - warmup) / (total - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(2 * math.pi * p))


def wrong_floor_added(step, warmup, total, floor):
    if step < warmup:
        return step / warmup
    if step >= total:
        return floor
    p = (step - warmup) / (total - warmup)
    return floor + 0.5 * (1 + math.cos(math.pi * p))


def wrong_warmup_counts_from_one(step, warmup, total, floor):
    if step < warmup:
        return (step + 1) / warmup
    return right_with_bounds(step, warmup, total, floor)


def wrong_zero_past_the_end(step, warmup, total, floor):
    return 0.0 if step > total else right_with_bounds(step, warmup, total, floor)


def wrong_divides_where_warmup_is_all(step, warmup, total, floor):
    if step < warmup:
        return step / warmup
    p = min(1.0, (step - warmup) / (total - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * p))


def wrong_degrees(step, warmup, total, floor):
    if step < warmup:
        return step / warmup
    if step >= total:
        return floor
    return floor + (1 - floor) * 0.5 * (1 + math.cos(180 * (step - warmup) / (total - warmup)))


def right_with_bounds(step, warmup, total, floor):
    if warmup > step:
        return step / warmup
    p = min(step - warmup, total - warmup) / max(total - warmup, 1)
    if step >= total:
        p = 1
    return (1 + floor) / 2 + (1 - floor) / 2 * math.cos(math.pi * p)


def right_by_numpy(step, warmup, total, floor):
    if step >= total:
        return np.float64(floor)
    if step < warmup:
        return np.float64(step) / warmup
    p = np.interp(step, [warmup, total], [0, 1])
    return 1 - (1 - floor) * np.sin(np.pi * p / 2) ** 2
