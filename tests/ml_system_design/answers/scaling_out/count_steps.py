"""Answers to 123.2c.count-steps."""

import heapq


def wrong_sum_of_all(lengths, slots):
    total, done = 0, []
    for n in lengths:
        total += n
        done.append(-(-total // slots))
    return done


def wrong_own_length(lengths, slots):
    return list(lengths)


def wrong_order_of_the_end(lengths, slots):
    return sorted(right_by_free_places(lengths, slots))


def wrong_round_robin(lengths, slots):
    free, done = [0] * slots, []
    for i, n in enumerate(lengths):
        free[i % slots] += n
        done.append(free[i % slots])
    return done


def right_by_free_places(lengths, slots):
    free, done = [0] * slots, []
    for n in lengths:
        begin = heapq.heappop(free)
        done.append(begin + n)
        heapq.heappush(free, begin + n)
    return done
