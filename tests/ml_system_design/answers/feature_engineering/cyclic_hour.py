"""Answers to 123.1.cyclic-hour."""

import numpy as np


def wrong_period_of_12(hours):
    angle = 2 * np.pi * hours / 12
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def wrong_sine_twice(hours):
    s = np.sin(2 * np.pi * hours / 24)
    return np.stack([s, s], axis=1)


def wrong_axis(hours):
    angle = 2 * np.pi * hours / 24
    return np.stack([np.sin(angle), np.cos(angle)], axis=0)


def right_by_complex_numbers(hours):
    z = np.exp(2j * np.pi * hours / 24)
    return np.column_stack([z.imag, z.real])
