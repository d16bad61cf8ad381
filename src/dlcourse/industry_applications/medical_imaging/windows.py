"""DICOM windows: from stored values, such as Hounsfield units, to grey levels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def dicom_window(values: ArrayLike, center: float, width: float) -> NDArray[np.float64]:
    """Grey levels in [0, 1] of stored values, as the standard's linear function has it.

    DICOM PS3.3, C.11.2.1.2.1: with centre c and width w,

        0                                   where x ≤ c − 0.5 − (w − 1)/2
        1                                   where x > c − 0.5 + (w − 1)/2
        (x − (c − 0.5))/(w − 1) + 0.5       between.

    Args:
        values: any shape, after rescale slope and intercept (Hounsfield units in CT).
        center: c, in the unit of the values.
        width: w, at least 1.

    Raises:
        ValueError: a width below 1, or a value that is not finite.
    """
    x = np.asarray(values, np.float64)
    if not math.isfinite(center) or not math.isfinite(width) or width < 1:
        raise ValueError(f"need a finite center and a width of at least 1: got {center}, {width}")
    if not np.isfinite(x).all():
        raise ValueError("values must be finite: they hold NaN or infinity")
    low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    ramp = (x - (center - 0.5)) / max(width - 1, 1) + 0.5
    return np.where(x <= low, 0.0, np.where(x > high, 1.0, ramp))
