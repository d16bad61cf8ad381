"""Answers to 123.3.should-tell."""

import numpy as np


def wrong_at_the_threshold(values, raise_at, clear_at, lasting):
    return right_looking_back(values, raise_at - 1e-9, clear_at, lasting)


def wrong_lasts_one_more(values, raise_at, clear_at, lasting):
    return right_looking_back(values, raise_at, clear_at, lasting + 1)


def wrong_never_clears(values, raise_at, clear_at, lasting):
    return right_looking_back(values, raise_at, -np.inf, lasting)


def wrong_tells_the_state(values, raise_at, clear_at, lasting):
    return np.cumsum(right_looking_back(values, raise_at, clear_at, lasting))


def wrong_clears_as_raises(values, raise_at, clear_at, lasting):
    told = right_looking_back(values, raise_at, clear_at, lasting)
    return np.abs(told)


def right_looking_back(values, raise_at, clear_at, lasting):
    told, raised, start = np.zeros(len(values), int), False, 0
    for i in range(len(values)):
        if raised and values[i] <= clear_at:
            raised, start, told[i] = False, i + 1, -1
        elif not raised:
            last = values[max(start, i - lasting + 1) : i + 1]
            if len(last) == lasting and np.all(last > raise_at):
                raised, told[i] = True, 1
    return told


def right_counting(values, raise_at, clear_at, lasting):
    told, state, run = [], 0, 0
    for value in values:
        before = state
        run = run + 1 if not state and value > raise_at else 0
        if run >= lasting:
            state = 1
        elif state and value <= clear_at:
            state = 0
        run = 0 if state else run
        told.append(state - before)
    return np.array(told, int)
