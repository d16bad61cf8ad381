"""Answers to 121.1a.chance-of-pair."""

import itertools
import math

import torch


def over_matchings(sounds, pictures, value):
    orders = list(itertools.permutations(pictures))
    total = torch.zeros(4, 4, dtype=torch.float64)
    for order in orders:
        total += value(list(zip(sounds, order, strict=True)))
    return total / len(orders)


def wrong_counts_each(sounds, pictures):
    def value(pairs):
        found = torch.zeros(4, 4, dtype=torch.float64)
        for s, p in pairs:
            found[s, p] += 1
        return found

    return over_matchings(sounds, pictures, value)


def wrong_only_different_kinds(sounds, pictures):
    sounds, pictures = sorted(set(sounds)), sorted(set(pictures))
    found = torch.zeros(4, 4, dtype=torch.float64)
    for s, p in itertools.product(sounds, pictures):
        found[s, p] = 1 / max(len(sounds), len(pictures))
    return found


def wrong_three_events_always(sounds, pictures):
    found = torch.zeros(4, 4, dtype=torch.float64)
    for s, p in itertools.product(range(4), repeat=2):
        a, b = sounds.count(s), pictures.count(p)
        found[s, p] = 1 - math.comb(3 - b, a) / math.comb(3, a)
    return found


def wrong_avoided(sounds, pictures):
    return 1 - right_by_matchings(sounds, pictures)


def wrong_single_precision(sounds, pictures):
    return right_by_matchings(sounds, pictures).float()


def right_by_matchings(sounds, pictures):
    def value(pairs):
        found = torch.zeros(4, 4, dtype=torch.float64)
        for s, p in pairs:
            found[s, p] = 1
        return found

    return over_matchings(sounds, pictures, value)


def right_by_products(sounds, pictures):
    """A picture after another is given away: none goes to s."""
    n, found = len(sounds), torch.zeros(4, 4, dtype=torch.float64)
    for s, p in itertools.product(range(4), repeat=2):
        a, b = sounds.count(s), pictures.count(p)
        none = 1.0
        for k in range(b):
            none *= max(n - a - k, 0) / (n - k)
        found[s, p] = 1 - none
    return found


def wrong_expected_number_cut_at_one(sounds, pictures):
    """Right by chance for as many as three events."""
    a = torch.tensor([sounds.count(k) for k in range(4)], dtype=torch.float64)
    b = torch.tensor([pictures.count(k) for k in range(4)], dtype=torch.float64)
    return (a[:, None] * b / len(sounds)).clamp(max=1)


def right_by_distinct_orders(sounds, pictures):
    chance = torch.zeros(4, 4, dtype=torch.float64)
    orders = set(itertools.permutations(pictures))
    for order in orders:
        for s, p in set(zip(sounds, order, strict=True)):
            chance[s, p] += 1 / len(orders)
    return chance
