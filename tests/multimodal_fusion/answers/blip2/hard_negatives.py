"""Answers to 121.2b.hard-negatives."""

import torch


def right_by_minus_infinity(logits, same):
    return logits.masked_fill(same, -torch.inf).softmax(1)


def right_by_loops(logits, same):
    rows = []
    for row, right in zip(logits, same, strict=True):
        wrong = row[~right]
        weights = (wrong - wrong.max()).exp()
        shares = torch.zeros_like(row)
        shares[~right] = weights / weights.sum()
        rows.append(shares)
    return torch.stack(rows)


def wrong_without_care_for_overflow(logits, same):
    weights = (logits * 4).exp().pow(0.25) * ~same
    return weights / weights.sum(1, keepdim=True)


def wrong_mean_of_both_sides(logits, same):
    p = right_by_minus_infinity(logits, same)
    return (p + p.T) / 2


def wrong_normalised_by_columns(logits, same):
    return logits.masked_fill(same, -torch.inf).softmax(0)


def wrong_the_hardest_alone(logits, same):
    best = logits.masked_fill(same, -torch.inf).argmax(1)
    return torch.eye(len(logits), dtype=logits.dtype)[best]


def wrong_logits_not_exponentiated(logits, same):
    weights = logits.clamp_min(0).masked_fill(same, 0) + 1e-12
    return weights / weights.sum(1, keepdim=True)


def wrong_changes_its_input(logits, same):
    logits[same] = -torch.inf
    return logits.softmax(1)


def wrong_drawn_at_once(logits, same):
    return right_by_minus_infinity(logits, same).multinomial(1)[:, 0]


def wrong_numpy(logits, same):
    return right_by_minus_infinity(logits, same).numpy()


def wrong_only_the_wrong_ones_kept(logits, same):
    return right_by_minus_infinity(logits, same)[~same]


def wrong_mask_turned_round(logits, same):
    return logits.masked_fill(~same, -torch.inf).softmax(1)


def wrong_float32(logits, same):
    return right_by_minus_infinity(logits.float(), same)


def wrong_plain_exponential(logits, same):
    weights = logits.exp() * ~same
    return weights / weights.sum(1, keepdim=True)


def wrong_taken_out_after_the_softmax(logits, same):
    weights = logits.softmax(1) * ~same
    return weights / weights.sum(1, keepdim=True)


def wrong_minus_a_hundred(logits, same):
    return logits.masked_fill(same, -100.0).softmax(1)
