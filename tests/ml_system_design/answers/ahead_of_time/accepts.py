"""Answers to 123.2b.accepts."""

import numpy as np


def wrong_broadcasts(wanted, inputs):
    if len(inputs) != len(wanted):
        return False
    for (dtype, shape), x in zip(wanted, inputs):
        try:
            np.broadcast_shapes(x.shape, tuple(1 if s is None else s for s in shape))
        except ValueError:
            return False
        if str(x.dtype) != dtype:
            return False
    return True


def wrong_batch_is_first(wanted, inputs):
    return right_sets(wanted, inputs) and all(
        shape[:1] == (None,) or None not in shape for _, shape in wanted
    )


def wrong_kind_of_dtype(wanted, inputs):
    same = [(str(x.dtype), s) if x.dtype.kind == d[0] else (d, s)
            for (d, s), x in zip(wanted, inputs)]  # fmt: skip
    return len(inputs) == len(wanted) and right_sets(same, inputs)


def wrong_number_of_elements(wanted, inputs):
    if len(inputs) != len(wanted):
        return False
    for (dtype, shape), x in zip(wanted, inputs):
        width = int(np.prod([s for s in shape if s is not None]))
        if str(x.dtype) != dtype or (width and x.size % width):
            return False
    return True


def right_sets(wanted, inputs):
    sizes = set()
    ok = len(wanted) == len(inputs)
    for i in range(min(len(wanted), len(inputs))):
        dtype, shape = wanted[i]
        x = inputs[i]
        ok = ok and x.dtype == np.dtype(dtype) and len(shape) == x.ndim
        if not ok:
            break
        sizes |= {x.shape[k] for k in range(x.ndim) if shape[k] is None}
        ok = ok and all(shape[k] in (None, x.shape[k]) for k in range(x.ndim))
    return bool(ok and len(sizes) < 2 and all(n >= 1 for n in sizes))


def right_fill_in(wanted, inputs):
    n = None
    for (_, shape), x in zip(wanted, inputs):
        if None in shape and len(shape) == x.ndim:
            n = x.shape[shape.index(None)]
            break
    filled = [(d, tuple(n if s is None else s for s in shape)) for d, shape in wanted]
    has_batch = any(None in shape for _, shape in wanted)
    return filled == [(str(x.dtype), x.shape) for x in inputs] and not (has_batch and not n)
