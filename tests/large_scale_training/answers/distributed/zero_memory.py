"""Answers to 119.1a.zero-memory."""

import math


def wrong_two_and_three_swapped(parameters, ranks, stage):
    weights = 2 * parameters / (ranks if stage >= 2 else 1)
    gradients = 2 * parameters / (ranks if stage >= 3 else 1)
    return weights, gradients, 12 * parameters / (ranks if stage >= 1 else 1)


def wrong_in_all(parameters, ranks, stage):
    return sum(right_by_table(parameters, ranks, stage))


def wrong_order(parameters, ranks, stage):
    return right_by_table(parameters, ranks, stage)[::-1]


def wrong_two_moments_alone(parameters, ranks, stage):
    weights, gradients, optimizer = right_by_table(parameters, ranks, stage)
    return weights, gradients, optimizer * 8 / 12


def wrong_one_stage_at_a_time(parameters, ranks, stage):
    parts = [2 * parameters, 2 * parameters, 12 * parameters]
    if stage:
        parts[3 - stage] /= ranks
    return tuple(parts)


def wrong_stage_three_gathers_all(parameters, ranks, stage):
    return right_by_table(parameters, ranks, min(stage, 2))


def wrong_gigabytes(parameters, ranks, stage):
    return tuple(part / 2**30 for part in right_by_table(parameters, ranks, stage))


def wrong_eighth_power(parameters, ranks, stage):
    return (parameters**8,) * 3


def wrong_copy_of_the_weights_on_each_rank(parameters, ranks, stage):
    weights, gradients, _ = right_by_table(parameters, ranks, stage)
    return weights, gradients, 4 * parameters + 8 * parameters / (ranks if stage else 1)


def right_by_table(parameters, ranks, stage):
    held = []
    for size, first in ((2, 3), (2, 2), (12, 1)):
        held.append(size * parameters / ranks if stage >= first else size * parameters)
    return tuple(held)


def right_in_whole_bytes(parameters, ranks, stage):
    return tuple(math.ceil(part) for part in right_by_table(parameters, ranks, stage))


def right_as_a_list(parameters, ranks, stage):
    divide = [ranks**flag for flag in (stage > 2, stage > 1, stage > 0)]
    return [parameters * n / d for n, d in zip((2, 2, 12), divide, strict=True)]
