"""Training/serving skew: the same rows' features, computed by two paths, compared.

Breck et al. (2017), "The ML Test Score", Monitor 3: log what serving computed, compute the same
rows in batch, and compare cell by cell. Equal distributions would not show a bug that swaps rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from . import _checks


@dataclass(frozen=True)
class ColumnSkew:
    """A column whose values differ.

    Attributes:
        column: its name.
        different: in how many of the rows compared.
        share: the same as a share of them, in (0, 1].
        one_missing: how many of these are missing on one side only.
        largest: the greatest |offline − online| where both are finite numbers, else NaN.
        first_row: the index of the first row that differs, in the order of ``offline``.
    """

    column: str
    different: int
    share: float
    one_missing: int
    largest: float
    first_row: Any


@dataclass(frozen=True)
class SkewReport:
    """What ``train_serve_skew`` found; true to ``bool`` where there is skew.

    Attributes:
        rows: how many rows were compared.
        columns: the columns that differ, the most often first.
        only_offline_columns, only_online_columns: names that one path lacks.
        only_offline_rows, only_online_rows: the index of rows that one path lacks.
    """

    rows: int
    columns: tuple[ColumnSkew, ...]
    only_offline_columns: tuple[str, ...]
    only_online_columns: tuple[str, ...]
    only_offline_rows: tuple[Any, ...]
    only_online_rows: tuple[Any, ...]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(
            self.columns
            or self.only_offline_columns
            or self.only_online_columns
            or self.only_offline_rows
            or self.only_online_rows
        )

    def __str__(self) -> str:
        """A line for each thing that differs."""
        lines = [f"{self.rows} rows compared: {'skew' if self else 'no skew'}"]
        for side in ("offline", "online"):
            for what in ("columns", "rows"):
                names = getattr(self, f"only_{side}_{what}")
                if names:
                    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                    lines.append(f"  {what} only {side}: {', '.join(map(str, names[:5]))}{more}")
        for c in self.columns:
            by = "" if np.isnan(c.largest) else f", by up to {c.largest:.3g}"
            lines.append(
                f"  {c.column}: {c.different} rows ({c.share:.1%}) differ{by}; "
                f"{c.one_missing} missing on one side; first at row {c.first_row}"
            )
        return "\n".join(lines)


def train_serve_skew(
    offline: pd.DataFrame, online: pd.DataFrame, *, rtol: float = 1e-6, atol: float = 1e-9
) -> SkewReport:
    """Compare the features of the batch path with those that serving computed, cell by cell.

    Rows are paired by the index, whatever their order. Two numbers are equal if

        |a − b| ≤ atol + rtol · max(|a|, |b|)

    and two missing values are equal; a missing value equals nothing else. Whole numbers whose dtype
    says so in both, and what is no number, must be the same; a number never equals a string.

    Args:
        offline: features of the batch path; the index says which row it is (a request's id).
        online: features that serving logged, with the same index.
        rtol, atol: the tolerances above, for the rounding of float32 and other orders of sums.

    Raises:
        TypeError: not two DataFrames.
        ValueError: an index with doubles, no row in common, or a tolerance below 0.
    """
    for frame, name in ((offline, "offline"), (online, "online")):
        _checks.table(frame, name)
        if not frame.index.is_unique:
            row = frame.index[frame.index.duplicated()][0]
            raise ValueError(f"the index of {name} has {row} twice: rows cannot be paired")
    for value, name in ((rtol, "rtol"), (atol, "atol")):
        if not np.isfinite(value) or value < 0:
            raise ValueError(f"{name} must be finite and at least 0: got {value!r}")
    shared = offline.index[offline.index.isin(online.index)]
    if len(shared) == 0:
        raise ValueError("no row is in both: set the index of both to the id of the row")
    left, right = offline.loc[shared], online.loc[shared]
    found = []
    for name in left.columns[left.columns.isin(right.columns)]:
        unequal, missing, gap = _differences(left[name], right[name], rtol, atol)
        if unequal.any():
            n = int(unequal.sum())
            first = shared[int(np.argmax(unequal))]
            largest = float(gap[unequal & np.isfinite(gap)].max(initial=-np.inf))
            largest = largest if largest >= 0 else float("nan")
            found.append(
                ColumnSkew(name, n, n / len(shared), int(missing.sum()), largest, first)
            )
    return SkewReport(
        rows=len(shared),
        columns=tuple(sorted(found, key=lambda c: -c.different)),
        only_offline_columns=tuple(c for c in offline.columns if c not in online.columns),
        only_online_columns=tuple(c for c in online.columns if c not in offline.columns),
        only_offline_rows=tuple(offline.index[~offline.index.isin(online.index)]),
        only_online_rows=tuple(online.index[~online.index.isin(offline.index)]),
    )


def _differences(
    a: pd.Series, b: pd.Series, rtol: float, atol: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of n pairs differ, which are missing on one side, and |a − b|, NaN if no numbers."""
    no_a, no_b = a.isna().to_numpy(dtype=bool), b.isna().to_numpy(dtype=bool)
    missing = no_a != no_b
    there = ~no_a & ~no_b
    unequal, gap = missing.copy(), np.full(len(a), np.nan)
    numeric = ("boolean", "integer", "number")
    x, y = (column.astype(object).to_numpy()[there] for column in (a, b))
    whole = all(pd.api.types.is_integer_dtype(column.dtype) for column in (a, b))  # ids, counts
    if _checks.kind_of(a) in numeric and _checks.kind_of(b) in numeric:
        same = (x == y).astype(bool)  # exact, before the rounding to float64
        x, y = x.astype(np.float64), y.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            gap[there] = np.abs(x - y)
            close = gap[there] <= atol + rtol * np.maximum(np.abs(x), np.abs(y))
        # Infinity equals itself only; against it the tolerance would be infinite.
        finite = np.isfinite(x) & np.isfinite(y)
        unequal[there] = ~np.where(finite & (not whole), close, same)
    else:
        unequal[there] = [not _same(p, q) for p, q in zip(x, y, strict=True)]
    return unequal, missing, gap


def _same(a: Any, b: Any) -> bool:
    """Equality of two values of any type, times of different zones or none included."""
    equal = a == b
    return bool(np.all(equal)) if np.ndim(equal) else bool(equal)
