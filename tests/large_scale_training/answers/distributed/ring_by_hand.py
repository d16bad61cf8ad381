"""Answers to 119.1a.ring-by-hand."""

import numpy as np
import torch


def wrong_no_way_round(pieces):
    buffers = pieces.copy()
    ranks = len(buffers)
    for k in range(ranks - 1):
        sent = [buffers[r, (r - k) % ranks].copy() for r in range(ranks)]
        for r in range(ranks - 1):  # the last rank sends to nobody
            buffers[r + 1, (r - k) % ranks] += sent[r]
    return buffers


def wrong_sums_into_the_argument(pieces):
    ranks = len(pieces)
    for k in range(ranks - 1):
        sent = [pieces[r, (r - k) % ranks].copy() for r in range(ranks)]
        for r in range(ranks):
            pieces[(r + 1) % ranks, (r - k) % ranks] += sent[r]
    return pieces


def wrong_finished_pieces_alone(pieces):
    total, buffers = pieces.sum(0), pieces.copy()
    for r in range(len(pieces)):
        buffers[r, (r + 1) % len(pieces)] = total[(r + 1) % len(pieces)]
    return buffers


def wrong_mean(pieces):
    return right_as_partial_sums(pieces) / len(pieces)


def wrong_for_four_ranks(pieces):
    buffers = pieces.copy()
    for k in range(3):
        sent = [buffers[r, (r - k) % 4].copy() for r in range(4)]
        for r in range(4):
            buffers[(r + 1) % 4, (r - k) % 4] += sent[r]
    return buffers


def wrong_messages_that_are_views(pieces):
    """Each rank sends its running total, and finishes piece r instead of r + 1."""
    buffers = pieces.copy()
    ranks = len(buffers)
    for k in range(1, ranks):
        sent = [buffers[r, (r - k) % ranks].copy() for r in range(ranks)]
        for r in range(ranks):
            buffers[(r + 1) % ranks, (r - k) % ranks] += sent[r]
    return buffers


def wrong_a_tensor(pieces):
    return torch.from_numpy(right_as_partial_sums(pieces))


def wrong_the_argument_itself_for_one_rank(pieces):
    return pieces if len(pieces) == 1 else right_as_partial_sums(pieces)


def right_as_partial_sums(pieces):
    """Piece c of rank r is the sum over the ranks c, c + 1, …, r (round the ring)."""
    ranks, buffers = len(pieces), np.empty_like(pieces)
    for r in range(ranks):
        for c in range(ranks):
            members = [(c + i) % ranks for i in range((r - c) % ranks + 1)]
            buffers[r, c] = pieces[members, c].sum(0)
    return buffers


def right_one_after_another(pieces):
    """No rank sends in a round what it receives in it, so the order does not matter."""
    buffers = np.array(pieces)
    ranks = buffers.shape[0]
    for k in range(ranks - 1):
        for r in range(ranks):
            buffers[(r + 1) % ranks, r - k] += buffers[r, r - k]
    return buffers
