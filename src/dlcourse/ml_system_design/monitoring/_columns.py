"""Tables as columns: values, which of them are missing, and whether they are numbers."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Column:
    """``missing`` is ``(n,)`` bool. ``values`` is ``(n,)``: float64 with NaN where missing, or,
    where ``categorical``, objects with None where missing."""

    values: NDArray
    missing: NDArray[np.bool_]
    categorical: bool

    def from_row(self, start: int) -> Column:
        return Column(self.values[start:], self.missing[start:], self.categorical)

    @property
    def present(self) -> NDArray:
        return self.values[~self.missing]


def read(table: Any, name: str, kinds: Mapping[str, bool] | Collection[str]) -> dict[str, Column]:
    """The columns of a DataFrame or of a mapping from names to arrays ``(n,)``.

    ``kinds`` says which columns are categorical: all of them by a mapping, or some by their names,
    while the others are looked at.
    """
    if not (isinstance(table, Mapping) or hasattr(table, "columns")):
        raise TypeError(
            f"{name} must be a DataFrame or a dict of arrays: got {type(table).__name__}. "
            'An array X becomes one by {f"x{j}": X[:, j] for j in range(X.shape[1])}'
        )
    names = [str(key) for key in (table if isinstance(table, Mapping) else table.columns)]
    if len(set(names)) < len(names):
        raise ValueError(f"{name} has two columns of one name: {sorted(names)}")
    if not names:
        raise ValueError(f"{name} has no columns")
    if absent := sorted(set(kinds) - set(names)):
        raise ValueError(f"{name} lacks the columns {absent}")
    if isinstance(kinds, Mapping) and (extra := sorted(set(names) - set(kinds))):
        raise ValueError(f"{name} has columns that the reference lacks: {extra}. Leave them out")
    columns = {}
    for key, column_name in zip(table, names, strict=True):
        if isinstance(kinds, Mapping):
            kind = kinds[column_name]
        else:
            kind = True if column_name in kinds else None
        columns[column_name] = _column(table[key], f"{name}[{column_name!r}]", kind)
    lengths = {key: len(column.values) for key, column in columns.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(f"{name} must have columns of one length, at least 1: got {lengths}")
    if isinstance(kinds, Mapping):  # in the order of the reference
        columns = {key: columns[key] for key in kinds}
    return columns


def _column(values: Any, name: str, categorical: bool | None) -> Column:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be an array or a list of n values: got {values!r}")
    if hasattr(values, "dtype"):
        array = np.asarray(values)
    else:  # NumPy alone would make the string "nan" of a NaN among strings
        array = _objects(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape (n,): got {array.shape}")
    if array.dtype.kind not in "biufOSUT":
        raise TypeError(f"{name} has dtype {array.dtype}: turn it into numbers or strings first")
    if array.dtype.kind in "iuf" and not categorical:
        x = array.astype(np.float64)
        return Column(x, np.isnan(x), False)
    objects = _objects(None if _is_missing(v) else v for v in array.tolist())
    missing = np.array([v is None for v in objects], bool)
    numbers = all(map(_is_number, objects[~missing]))
    if categorical is None:
        categorical = not numbers or bool(missing.all())
    if categorical:
        return Column(objects, missing, True)
    if not numbers:
        wrong = next(v for v in objects[~missing] if not _is_number(v))
        raise TypeError(f"{name} holds {wrong!r}, where the reference holds numbers")
    return Column(np.array([np.nan if v is None else v for v in objects], float), missing, False)


def _objects(values: Iterable[Any]) -> NDArray[np.object_]:
    objects = [*values]
    array = np.empty(len(objects), object)
    for i, value in enumerate(objects):
        if not isinstance(value, Hashable):
            raise TypeError(f"a column must hold numbers or categories: got {value!r}")
        array[i] = value
    return array


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    """None, NaN, and pandas' NA and NaT, which do not equal themselves either."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas' NA has no truth value
        return True
