"""122.2a: slates under a conditional choice model (SlateQ; Ie et al., IJCAI 2019)."""

import itertools

import torch


def choice_probabilities(scores, none):
    """Return P(click i | slate) = v_i / (v_none + sum v_j) for positive scores (k,)."""
    if none < 0 or not ((scores > 0) & scores.isfinite()).all():
        raise ValueError("scores must be positive and finite, none not negative")
    return scores / (none + scores.sum())


def slate_value(scores, item_values, none):
    """Return Q(slate) = sum_i P(i | slate) Q(i), with 0 for no click."""
    return (choice_probabilities(scores, none) * item_values).sum()


def best_slate(scores, item_values, size, none):
    """Return the items (size,) of the best slate, by trying all of them: for small examples."""
    if not 1 <= size <= len(scores):
        raise ValueError(f"size must be from 1 to {len(scores)}, got {size}")
    slates = itertools.combinations(range(len(scores)), size)
    return max(
        slates, key=lambda s: float(slate_value(scores[list(s)], item_values[list(s)], none))
    )
