"""123.2c: attention of a new token over a cache."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def attend(keys, values, length, q, k, v):
    """Return (out, keys, values): what the new token of each row sees, and the cache after it.

    keys, values: (b, room, d), of which row r has kept its first length[r] tokens; what lies behind
    them is left over from others. length: (b,) int, below room. q, k, v: (b, d), of one new token
    for each row. The arrays that are given must stay as they are.
    """
    keys, values = keys.copy(), values.copy()
    rows = np.arange(len(q))
    keys[rows, length], values[rows, length] = k, v
    scores = np.einsum("brd,bd->br", keys, q) / np.sqrt(q.shape[1])  # (b, room)
    scores[np.arange(keys.shape[1]) > length[:, None]] = -np.inf
    weights = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return np.einsum("br,brd->bd", weights, values), keys, values


def cases(rng):
    """Two to four rows of different lengths; what is left over is large, so that it shows."""
    b, room, d = int(rng.integers(2, 5)), int(rng.integers(4, 8)), 2 * int(rng.integers(1, 4))
    return {
        "keys": rng.normal(0, 2, (b, room, d)),
        "values": rng.normal(0, 2, (b, room, d)),
        "length": rng.integers(0, room, b),
        "q": rng.normal(0, 2, (b, d)),
        "k": rng.normal(0, 2, (b, d)),
        "v": rng.normal(0, 2, (b, d)),
    }


def edges():
    """The first token of all; a cache that becomes full; one row; large scores."""
    usual = cases(np.random.default_rng(5))
    b, room, _ = usual["keys"].shape
    one = {name: value[:1] for name, value in usual.items()}
    return {
        "first tokens": {**usual, "length": np.zeros(b, int)},
        "the last place": {**usual, "length": np.full(b, room - 1)},
        "one row": one,
        "large scores": {**usual, "q": 1000 * usual["q"]},
    }


def listing_no_mask(keys, values, length, q, k, v):
    full = np.full(len(q), keys.shape[1] - 1)
    _, keys, values = attend(keys, values, length, q, k, v)
    rows = np.arange(len(q))
    out, _, _ = attend(keys, values, full, q, keys[rows, full], values[rows, full])
    return out, keys, values


def not_itself(keys, values, length, q, k, v):
    _, new_keys, new_values = attend(keys, values, length, q, k, v)
    scores = np.einsum("brd,bd->br", keys, q) / np.sqrt(q.shape[1])
    scores[np.arange(keys.shape[1]) >= length[:, None]] = -1e30
    weights = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return np.einsum("br,brd->bd", weights, values), new_keys, new_values


def longest_row(keys, values, length, q, k, v):
    return attend(keys, values, np.full_like(length, length.max()), q, k, v)


def not_scaled(keys, values, length, q, k, v):
    return attend(keys, values, length, q * np.sqrt(q.shape[1]), k, v)


def not_kept(keys, values, length, q, k, v):
    return attend(keys, values, length, q, k, v)[0], keys, values


def in_place(keys, values, length, q, k, v):
    rows = np.arange(len(q))
    out = attend(keys, values, length, q, k, v)[0]
    keys[rows, length], values[rows, length] = k, v
    return out, keys, values


EXERCISE = Exercise(
    key="123.2c.attend-cached",
    title="A new token and its cache",
    difficulty="implement",
    statement=r"""
A batch decodes one token a row. Row $r$ has kept `length[r]` tokens: write its new key and value behind
them, and attend with its query over all of its tokens, the new one included:
$\mathrm{softmax}(q K^\top / \sqrt d)\, V$. Behind a row's own tokens lies what others have left there.

Return the result `(b, d)` and the two caches as they are afterwards, as NumPy arrays; leave those
that were given as they are.
""",
    imports="import numpy as np",
    reference=attend,
    cases=cases,
    edges=edges,
    hints=[
        "`keys[np.arange(b), length] = k` writes one place a row.",
        "A row sees the places 0 … length[r]: give the others a score of −∞.",
        "Subtract the largest score of a row before `exp`.",
    ],
    mistakes={
        "listing_no_mask": Mistake(
            answer=listing_no_mask,
            hint="rows see what others left behind their own tokens: mask by each row's length.",
        ),
        "not_itself": Mistake(answer=not_itself, hint="the new token does not see itself."),
        "longest_row": Mistake(
            answer=longest_row,
            hint="all rows are written and masked at the longest row's length. Each has its own.",
        ),
        "not_scaled": Mistake(answer=not_scaled, hint="the scores are not divided by √d."),
        "not_kept": Mistake(answer=not_kept, hint="the new key and value are not kept."),
        "in_place": Mistake(
            answer=in_place, hint="the arrays that were given are changed; copy them first."
        ),
    },
)
