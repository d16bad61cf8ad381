"""Answers to 123.2a.content-key."""

import hashlib


def wrong_text(requests, versions):
    keys = [(str(x), v) for x, v in zip(requests, versions)]
    return [keys.index(key) for key in keys]


def wrong_in_memory_order(requests, versions):
    keys = [(x.tobytes("A"), x.dtype.str, x.shape, v) for x, v in zip(requests, versions)]
    return [keys.index(key) for key in keys]


def wrong_identity(requests, versions):
    keys = [(id(x), v) for x, v in zip(requests, versions)]
    return [keys.index(key) for key in keys]


def wrong_number_of_axes_forgotten(requests, versions):
    keys = [(x.tobytes(), x.dtype.str, x.size, v) for x, v in zip(requests, versions)]
    return [keys.index(key) for key in keys]


def right_digests(requests, versions):
    keys = []
    for x, version in zip(requests, versions):
        digest = hashlib.sha256(repr((x.dtype.str, x.shape, version)).encode())
        digest.update(x.tobytes())
        keys.append(digest.digest())
    return [keys.index(key) for key in keys]


def right_by_pairs(requests, versions):
    found = []
    for i, x in enumerate(requests):
        for j, y in enumerate(requests):
            kinds = (x.dtype, x.shape, versions[i]) == (y.dtype, y.shape, versions[j])
            if kinds and x.tobytes() == y.tobytes():
                found.append(j)
                break
    return found
