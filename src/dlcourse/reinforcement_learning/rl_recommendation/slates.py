"""122.2a: slates under a conditional choice model (SlateQ; Ie et al., IJCAI 2019)."""

import itertools

import torch


def choice_probabilities(scores, none):
    """Return P(click i | slate) = v_i / (v_none + sum v_j) for positive scores (k,)."""
    if scores.ndim != 1 or len(scores) == 0:
        raise ValueError(f"scores must be (k,), k at least 1, got {tuple(scores.shape)}")
    if not 0 <= none < float("inf") or not ((scores > 0) & scores.isfinite()).all():
        raise ValueError("scores must be positive and finite, none not negative")
    return scores / (none + scores.sum())


def slate_value(scores, item_values, none, none_value):
    """Return Q(slate) = sum_i P(i | slate) Q(i) + P(no click | slate) V_0, for scores (k,).

    item_values (k,) are the long-term values of the items once chosen; none_value is V_0: after
    no click the session goes on, and what follows counts.
    """
    chosen = choice_probabilities(scores, none)  # (k,)
    if item_values.shape != scores.shape:
        raise ValueError(
            f"item_values must be {tuple(scores.shape)}, got {tuple(item_values.shape)}"
        )
    if not (item_values.isfinite().all() and abs(none_value) < float("inf")):
        raise ValueError("item_values and none_value must be finite")
    return (chosen * item_values).sum() + none / (none + scores.sum()) * none_value


def best_slate(scores, item_values, size, none, none_value):
    """Return the items (size,) of the best slate, by trying all of them: for small examples."""
    if not 1 <= size <= len(scores):
        raise ValueError(f"size must be from 1 to {len(scores)}, got {size}")

    def value(slate):
        picked = list(slate)
        return float(slate_value(scores[picked], item_values[picked], none, none_value))

    return max(itertools.combinations(range(len(scores)), size), key=value)
