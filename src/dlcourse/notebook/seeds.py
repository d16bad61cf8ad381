"""What a few runs over the same seeds say of a difference."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

#: Student's t for a two-sided interval of 95 %, by the number of values (one more than the degrees
#: of freedom).
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def paired(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Mean of ``first`` − ``second`` over the same seeds, and half the width of its 95 % interval.

    Raises ValueError for sequences of unequal lengths, and for fewer than 2 or more than 5 seeds.
    """
    gaps = [float(a) - float(b) for a, b in zip(first, second, strict=True)]
    if len(gaps) not in T95:
        raise ValueError(f"an interval needs 2 to 5 seeds: got {len(gaps)}")
    half = T95[len(gaps)] * statistics.stdev(gaps) / math.sqrt(len(gaps))
    return statistics.mean(gaps), half
