"""123.2a: which requests are equal?"""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def first_equal(requests, versions):
    """Return a list (n,): the index of the first request that each one is equal to.

    requests: list of n arrays; versions: list of n texts, the model that each one asks.
    """
    seen, found = {}, []
    for i, (x, version) in enumerate(zip(requests, versions)):
        key = (x.tobytes(), str(x.dtype), x.shape, version)
        found.append(seen.setdefault(key, i))
    return found


def cases(rng):
    """A few small contents in several dtypes, shapes and versions."""
    requests, versions = [], []
    for _ in range(int(rng.integers(8, 14))):
        x = rng.integers(0, 2, 4).astype(rng.choice(["float32", "int32"]))
        requests.append(x.reshape([(4,), (2, 2)][rng.integers(2)]))
        versions.append(str(rng.choice(["1", "2"])))
    return {"requests": requests, "versions": versions}


def edges():
    """None, one; bytes alike and the rest not; another layout; signed zero and NaN."""
    zeros = [np.zeros(4, np.float32), np.zeros((2, 2), np.float32), np.zeros(2, np.float64)]
    square = np.arange(4.0).reshape(2, 2)
    return {
        "no request": {"requests": [], "versions": []},
        "one request": {"requests": zeros[:1], "versions": ["1"]},
        "equal bytes": {"requests": [*zeros, zeros[0].copy()], "versions": ["1"] * 4},
        "other shapes": {
            "requests": [np.zeros(shape) for shape in ((1, 4), (2, 2), (4, 1), (4,))],
            "versions": ["1"] * 4,
        },
        "other dtypes": {
            "requests": [np.zeros(2, dtype) for dtype in ("float32", "int32", ">f4")],
            "versions": ["1"] * 3,
        },
        "versions that begin alike": {"requests": [np.zeros(2)] * 2, "versions": ["1", "1.1"]},
        "a new model": {"requests": [zeros[0]] * 3, "versions": ["1", "2", "1"]},
        "other layouts": {
            "requests": [square, np.asfortranarray(square), square.T.copy()],
            "versions": ["1"] * 3,
        },
        "printed alike": {
            "requests": [np.ones(2, np.float32), np.ones(2), np.ones(2) + 1e-12],
            "versions": ["1"] * 3,
        },
        "signed zero and NaN": {
            "requests": [np.array([v]) for v in (0.0, -0.0, np.nan, np.nan)],
            "versions": ["1"] * 4,
        },
    }


def listing_bytes(requests, versions):
    """The document's key: the hash of the bytes."""
    keys = [hash(x.tobytes()) for x in requests]
    return [keys.index(key) for key in keys]


def no_version(requests, versions):
    return first_equal(requests, [""] * len(requests))


def no_shape(requests, versions):
    return first_equal([x.ravel() for x in requests], versions)


def no_dtype(requests, versions):
    return first_equal([x.astype(np.float64) for x in requests], versions)


def by_values(requests, versions):
    def same(i, j):
        x, y = requests[i], requests[j]
        kinds = (x.dtype, x.shape, versions[i]) == (y.dtype, y.shape, versions[j])
        return kinds and bool((x == y).all())

    n = len(requests)
    return [next((j for j in range(i) if same(i, j)), i) for i in range(n)]


def last_equal(requests, versions):
    first = first_equal(requests, versions)
    return [len(first) - 1 - first[::-1].index(i) for i in first]


EXERCISE = Exercise(
    key="123.2a.content-key",
    title="Which requests are equal?",
    difficulty="implement",
    statement=r"""
A cache may answer a request with an earlier answer only where the two are equal: in their bytes (in
C order), their dtype, their shape, and the version of the model that they ask. For each request
return the index of the first one that equals it; a new one is its own first.

0.0 and −0.0 differ in their bytes, and a NaN equals itself.
""",
    imports="import numpy as np",
    reference=first_equal,
    cases=cases,
    edges=edges,
    hints=[
        "Make a key of each request, and keep a dict from keys to the first index.",
        "A tuple is a good key: it has room for all four.",
        "`x.tobytes()` is in C order whatever the layout; `dict.setdefault` keeps the first.",
    ],
    mistakes={
        "listing_bytes": Mistake(
            answer=listing_bytes,
            hint="the key is made of the bytes alone, as in the document. Four float32 zeros have "
            "the bytes of two float64 zeros.",
        ),
        "no_version": Mistake(
            answer=no_version, hint="a new model is answered with the old one's results."
        ),
        "no_shape": Mistake(answer=no_shape, hint="arrays of unlike shape count as equal."),
        "no_dtype": Mistake(answer=no_dtype, hint="arrays of unlike dtype count as equal."),
        "by_values": Mistake(
            answer=by_values,
            hint="values are compared, not bytes: then 0.0 equals −0.0, and a NaN never itself.",
        ),
        "last_equal": Mistake(
            answer=last_equal, hint="that is the last equal request; the first was asked for."
        ),
    },
)
