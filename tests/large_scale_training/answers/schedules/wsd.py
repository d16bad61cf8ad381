"""Answers to 119.3.wsd."""

import math


def wrong_no_guard_for_the_warmup(step, warmup, total, decay):
    if step >= total:
        return 0.0
    if step <= warmup:
        return step / warmup
    return right_as_a_minimum(step, warmup, total, decay)


def wrong_no_warmup_begins_at_zero(step, warmup, total, decay):
    return min(right_as_a_minimum(step, warmup, total, decay), step / max(1, warmup))


def wrong_no_guard_for_the_decay(step, warmup, total, decay):
    p = (step - (total - decay)) / decay
    return right_as_a_minimum(step, warmup, total, decay) if p < 1 else 0.0


def wrong_root_of_the_difference(step, warmup, total, decay):
    if step < total - decay:
        return right_as_a_minimum(step, warmup, total, decay)
    return math.sqrt(max(0.0, 1 - (step - total + decay) / max(1, decay)))


def wrong_decay_a_step_late(step, warmup, total, decay):
    if step <= total - decay:
        return right_as_a_minimum(min(step, total - decay - 1), warmup, total, decay)
    return right_as_a_minimum(step - 1, warmup, total, decay)


def wrong_square(step, warmup, total, decay):
    if step < total - decay or step >= total:
        return right_as_a_minimum(step, warmup, total, decay)
    return 1 - ((step - total + decay) / decay) ** 2


def wrong_decay_counted_from_the_warmup(step, warmup, total, decay):
    if step < total - decay or step >= total:
        return right_as_a_minimum(step, warmup, total, decay)
    return 1 - math.sqrt((step - warmup) / (total - warmup))


def wrong_stays_at_the_last_value(step, warmup, total, decay):
    return right_as_a_minimum(min(step, total - 1), warmup, total, decay)


def wrong_whole_numbers(step, warmup, total, decay):
    if step < warmup:
        return step // warmup
    return right_as_a_minimum(step, warmup, total, decay)


def right_as_a_minimum(step, warmup, total, decay):
    left = total - step
    if left <= 0:
        return 0
    rise = step / warmup if step < warmup else 1
    fall = 1 - ((decay - left) / decay) ** 0.5 if left < decay else 1
    return min(rise, fall)


def right_from_the_end(step, warmup, total, decay):
    if step >= total:
        return 0.0
    if step >= total - decay:
        return 1.0 - math.sqrt(1.0 - (total - step) / decay)
    return 1.0 if step >= warmup else float(step) / warmup
