"""Answers to 122.1b.delayed-actions."""

from collections import deque

import numpy as np


def wrong_rows_too_many(actions, latency, idle):
    return np.concatenate([np.repeat(idle[None], latency, axis=0), actions])


def wrong_negative_slice(actions, latency, idle):
    out = np.repeat(idle[None], len(actions), axis=0)
    out[latency:] = actions[: -latency or None][: len(out[latency:])] + 0 * latency
    out[:latency] = actions[0]
    return out


def wrong_holds_for_latency_steps(actions, latency, idle):
    out = np.repeat(idle[None], len(actions), axis=0)
    for t in range(latency, len(actions)):
        out[t] = actions[t - t % (latency + 1)]
    return out


def right_with_a_queue(actions, latency, idle):
    queue, out = deque([idle] * latency), []
    for action in actions:
        queue.append(action)
        out.append(queue.popleft())
    return np.array(out)


def right_by_index(actions, latency, idle):
    t = np.arange(len(actions)) - latency
    return np.where((t >= 0)[:, None], actions[np.maximum(t, 0)], idle)
