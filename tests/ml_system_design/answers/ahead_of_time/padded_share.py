"""Answers to 123.2b.padded-share."""

from bisect import bisect_left


def wrong_powers_of_two(batches, sizes):
    computed = sum(1 << (n - 1).bit_length() if n else 0 for n in batches)
    return (computed - sum(batches)) / computed if computed else 0.0


def wrong_clipped(batches, sizes):
    runs = [sizes[min(bisect_left(sizes, n), len(sizes) - 1)] for n in batches if n]
    return max(0.0, (sum(runs) - sum(batches)) / sum(runs)) if runs else 0.0


def wrong_rows_not_share(batches, sizes):
    return right_bisect(batches, sizes) * 100


def wrong_nearest(batches, sizes):
    runs = [min(sizes, key=lambda s: abs(s - n)) for n in batches if n]
    return (sum(runs) - sum(batches)) / sum(runs) if runs else 0.0


def wrong_empty_runs(batches, sizes):
    return right_bisect([n or 1 for n in batches], sizes)


def right_bisect(batches, sizes):
    rows = 0
    for n in batches:
        while n > 0:
            run = sizes[-1] if n >= sizes[-1] else sizes[bisect_left(sizes, n)]
            rows += run
            n -= run
    return 1 - sum(batches) / rows if rows else 0.0


def right_counts(batches, sizes):
    largest = sizes[-1]
    total = padding = 0
    for n in batches:
        rest = n % largest
        extra = 0 if rest == 0 else next(s for s in sizes if s >= rest) - rest
        padding, total = padding + extra, total + n + extra
    return 0.0 if total == 0 else padding / total
