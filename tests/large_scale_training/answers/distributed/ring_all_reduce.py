"""Answers to 119.1a.ring-all-reduce."""

import math


def wrong_all_gather_has_one_message_more(size, ranks, bandwidth, latency):
    return (2 * ranks - 1) * (latency + size / ranks / bandwidth)


def wrong_tree_in_place_of_a_ring(size, ranks, bandwidth, latency):
    return 2 * math.log2(ranks) * (latency + size / bandwidth)


def wrong_latency_once(size, ranks, bandwidth, latency):
    return latency + 2 * (ranks - 1) * size / ranks / bandwidth


def wrong_all_links_in_turn(size, ranks, bandwidth, latency):
    return 2 * (ranks - 1) * ranks * (latency + size / ranks / bandwidth)


def wrong_piece_rounded_down(size, ranks, bandwidth, latency):
    return 2 * (ranks - 1) * (latency + size // ranks / bandwidth)


def wrong_bits(size, ranks, bandwidth, latency):
    return 2 * (ranks - 1) * (latency + 8 * size / ranks / bandwidth)


def wrong_limit_of_many_ranks(size, ranks, bandwidth, latency):
    return 2 * (ranks - 1) * latency + 2 * size / bandwidth


def wrong_prints(size, ranks, bandwidth, latency):
    print(2 * (ranks - 1) * (latency + size / ranks / bandwidth))


def right_message_by_message(size, ranks, bandwidth, latency):
    seconds = 0.0
    for _phase in ("reduce-scatter", "all-gather"):
        for _ in range(ranks - 1):
            seconds += latency + (size / ranks) / bandwidth
    return seconds


def right_as_one_fraction(size, ranks, bandwidth, latency):
    if ranks == 1:
        return 0
    return 2 * (ranks - 1) * latency + 2 * size * (ranks - 1) / (ranks * bandwidth)
