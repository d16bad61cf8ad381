"""After how many requests a compiler has paid for itself."""

from __future__ import annotations

import math


def break_even_requests(
    start: float, each: float, other_start: float, other_each: float
) -> float:
    """The least number of requests n from which on the first way is no slower than the other.

    A way takes ``start`` + n · ``each`` seconds for n requests, one after the other.

    Returns 0.0 where it is no slower from the beginning, and inf where it never catches up. Where
    the first way starts sooner and each of its requests takes longer, it is faster only for a
    while, and that is inf too: ask the other way round.

    Raises ValueError where a number is negative or not finite.
    """
    numbers = {
        "start": start, "each": each, "other_start": other_start, "other_each": other_each,
    }  # fmt: skip
    for name, value in numbers.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite seconds ≥ 0: got {value!r}")
    later, saved = start - other_start, other_each - each
    if saved < 0:
        return math.inf
    if later <= 0:
        return 0.0
    return math.inf if saved == 0 else float(math.ceil(later / saved))
