"""What the feature functions are given, checked before anything is computed."""

from __future__ import annotations

import operator
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

_KINDS = {"boolean": "boolean", "integer": "integer", "string": "string"}


def table(value: pd.DataFrame, name: str) -> pd.DataFrame:
    """A DataFrame whose column names are strings, each there once."""
    if not isinstance(value, pd.DataFrame):
        raise TypeError(f"{name} must be a pandas DataFrame: got {type(value).__name__}")
    strange = [column for column in value.columns if not isinstance(column, str)]
    if strange:
        raise TypeError(f"the column names of {name} must be strings: got {strange}")
    twice = sorted(set(value.columns[value.columns.duplicated()]))
    if twice:
        raise ValueError(f"{name} has columns of the same name: {twice}; rename or drop one")
    return value


def present(frame: pd.DataFrame, columns: Iterable[str], name: str) -> None:
    """That a table has these columns."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(f"{name} lacks the columns {missing}: it has {list(frame.columns)}")


def count(value: int, name: str) -> int:
    """A whole number of at least 1."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number: got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1: got {number}")
    return number


def kind_of(column: pd.Series) -> str:
    """What a column holds, whatever its dtype.

    Returns:
        ``"boolean"``, ``"integer"`` (floats that are all whole count), ``"number"``, ``"string"``,
        ``"datetime"``, ``"datetime with a zone"``, ``"empty"`` (nothing but missing values), or
        else the dtype and what pandas infers.
    """
    values = column.dropna()
    if values.empty:
        return "empty"
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return "datetime with a zone"
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return "datetime"
    inferred = pd.api.types.infer_dtype(values.astype(object), skipna=True)
    if inferred in ("floating", "mixed-integer-float"):
        numbers = values.astype(float).to_numpy()
        whole = np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all()
        return "integer" if whole else "number"
    return _KINDS.get(inferred, f"{column.dtype} ({inferred})")


def numbers(column: pd.Series, name: str) -> NDArray[np.float64]:
    """A column of real numbers as float64 ``(n,)``, NaN where missing; infinity is an error."""
    kind = kind_of(column)
    if kind not in ("boolean", "integer", "number", "empty"):
        raise TypeError(f"{name} must hold numbers: it holds {kind}")
    if kind == "empty":
        return np.full(len(column), np.nan)
    values = column.astype(object).where(column.notna(), np.nan).to_numpy(dtype=np.float64)
    if np.isinf(values).any():
        raise ValueError(f"{name} holds infinity: make it missing, or mend its source")
    return values


def matrix(value: ArrayLike, name: str) -> NDArray[np.float64]:
    """A float64 array ``(n, d)`` of finite numbers."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers: got dtype {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d), rows by columns: got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite: fill what is missing first")
    return array.astype(np.float64)
