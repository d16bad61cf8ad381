"""Answers to 119.1c.loss-scale-rule."""

from itertools import groupby


def wrong_growth_without_a_new_count(overflows, scale, growth_interval):
    good = updates = 0
    for bad in overflows:
        good = 0 if bad else good + 1
        updates += not bad
        if bad:
            scale /= 2
        elif good % growth_interval == 0 and good < 2 * growth_interval:
            scale *= 2
    return scale, updates


def wrong_not_below_one(overflows, scale, growth_interval):
    good = updates = 0
    for bad in overflows:
        if bad:
            scale, good = max(1.0, scale / 2), 0
        else:
            good, updates = good + 1, updates + 1
            if good == growth_interval:
                scale, good = scale * 2, 0
    return scale, updates


def wrong_whole_scales(overflows, scale, growth_interval):
    good = updates = 0
    for bad in overflows:
        if bad:
            scale, good = scale // 2, 0
        else:
            good, updates = good + 1, updates + 1
            if good == growth_interval:
                scale, good = scale * 2, 0
    return scale, updates


def wrong_not_above_its_start(overflows, scale, growth_interval):
    found, updates = right_by_stretches(overflows, scale, growth_interval)
    return min(found, 65536.0), updates


def wrong_overflow_keeps_the_count(overflows, scale, growth_interval):
    good = updates = 0
    for bad in overflows:
        if bad:
            scale /= 2
        else:
            good, updates = good + 1, updates + 1
            if good == growth_interval:
                scale, good = scale * 2, 0
    return scale, updates


def wrong_growth_counts_no_update(overflows, scale, growth_interval):
    good = updates = 0
    for bad in overflows:
        if bad:
            scale, good = scale / 2, 0
        elif good + 1 == growth_interval:
            scale, good = scale * 2, 0
        else:
            good, updates = good + 1, updates + 1
    return scale, updates


def wrong_skipped_steps(overflows, scale, growth_interval):
    return right_by_stretches(overflows, scale, growth_interval)[0], sum(overflows)


def wrong_pops_the_list(overflows, scale, growth_interval):
    result = right_by_stretches(overflows, scale, growth_interval)
    while overflows:
        overflows.pop()
    return result


def wrong_order_of_the_results(overflows, scale, growth_interval):
    return right_by_stretches(overflows, scale, growth_interval)[::-1]


def right_by_stretches(overflows, scale, growth_interval):
    power = updates = 0
    for bad, stretch in groupby(overflows):
        length = len(list(stretch))
        power += -length if bad else length // growth_interval
        updates += 0 if bad else length
    return scale * 2.0**power, updates


def right_with_a_countdown(overflows, scale, growth_interval):
    left = growth_interval
    for bad in overflows:
        left = growth_interval if bad else left - 1
        scale *= 0.5 if bad else 1
        if left == 0:
            scale, left = scale + scale, growth_interval
    return scale, len(overflows) - sum(map(int, overflows))
