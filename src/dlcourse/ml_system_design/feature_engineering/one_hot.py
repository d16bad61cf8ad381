"""One-hot coding whose columns are the categories of the training rows.

scikit-learn's ``OneHotEncoder(handle_unknown="ignore")`` of one column, by hand and dense.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Category = str | int


class OneHot:
    """One column of zeros and ones for each category that ``fit`` saw, in sorted order.

    The width is fixed by ``fit``: one row alone gives as many columns as a million, and a category
    that training never saw is a row of zeros.

    Attributes:
        categories: the k categories in the order of the columns, from ``fit`` on.
    """

    categories: list[Category] | None = None

    def fit(self, values: Iterable[Category]) -> OneHot:
        """Learn the categories of the training rows: n ≥ 1 strings, or n whole numbers.

        Raises:
            TypeError: something else, a missing value, or strings and numbers together.
            ValueError: no value.
        """
        seen = set(_categories(values))
        if not seen:
            raise ValueError("values is empty: there is no category to learn")
        self.categories = sorted(seen)
        return self

    def transform(self, values: Iterable[Category]) -> NDArray[np.float64]:
        """Zeros and ones, ``(n, k)``: row i has its 1 where category k is ``values[i]``.

        Raises:
            RuntimeError: before ``fit``.
            TypeError: as ``fit``, or strings where it saw numbers, or the reverse.
        """
        if self.categories is None:
            raise RuntimeError("call fit with the training rows before transform")
        values = _categories(values)
        if values and isinstance(values[0], str) != isinstance(self.categories[0], str):
            raise TypeError(
                f"fit saw {type(self.categories[0]).__name__} and values holds "
                f"{type(values[0]).__name__}: convert one of them"
            )
        column_of = {category: k for k, category in enumerate(self.categories)}
        coded = np.zeros((len(values), len(self.categories)))  # (n, k)
        for row, value in enumerate(values):
            if value in column_of:
                coded[row, column_of[value]] = 1.0
        return coded


def _categories(values: Iterable[Category]) -> list[Category]:
    """All strings, or all whole numbers, as Python's own."""
    if isinstance(values, (str, bytes)):
        raise TypeError(f"values must be a column of categories, not one string: got {values!r}")
    found: list[Category] = []
    for value in values:
        if isinstance(value, str):
            found.append(str(value))
        elif isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            found.append(int(value))
        else:
            raise TypeError(
                f"a category must be a string or a whole number: got {value!r}; "
                "give a missing value a name of its own"
            )
    if len({isinstance(value, str) for value in found}) > 1:
        raise TypeError("values mixes strings and numbers: make them all strings")
    return found
