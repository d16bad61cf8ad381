"""Answers to 121.1b.mel-triangles."""

import numpy as np
import torch


def wrong_height_by_band_count(frequencies, corners):
    return right_by_loops(frequencies, corners) * len(corners)


def wrong_neighbouring_corners(frequencies, corners):
    rows = [
        np.interp(frequencies.numpy(), corners[m : m + 2].numpy(), [0, 1], left=0, right=0)
        for m in range(len(corners) - 2)
    ]
    return torch.from_numpy(np.array(rows))


def wrong_float32(frequencies, corners):
    return right_by_loops(frequencies, corners).float()


def wrong_one_band_too_many(frequencies, corners):
    out = right_by_loops(frequencies, corners)
    return torch.cat([out, torch.zeros_like(out[:1])])


def wrong_absolute_value(frequencies, corners):
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    t = torch.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre))
    return t.abs() * 2 / (high - low)


def right_by_loops(frequencies, corners):
    out = torch.zeros(len(corners) - 2, len(frequencies), dtype=torch.float64)
    for m in range(len(corners) - 2):
        a, b, c = corners[m : m + 3].tolist()
        for k, f in enumerate(frequencies.tolist()):
            if a < f <= b:
                out[m, k] = (f - a) / (b - a) * 2 / (c - a)
            elif b < f < c:
                out[m, k] = (c - f) / (c - b) * 2 / (c - a)
    return out


def right_by_interpolation(frequencies, corners):
    rows = []
    for m in range(len(corners) - 2):
        c = corners[m : m + 3].numpy()
        rows.append(np.interp(frequencies.numpy(), c, [0, 2 / (c[2] - c[0]), 0], left=0, right=0))
    return torch.from_numpy(np.array(rows))
