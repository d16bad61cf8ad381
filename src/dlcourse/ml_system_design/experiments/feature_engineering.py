"""Chapter 123.1: the tables and studies of the page on feature engineering."""

from __future__ import annotations

import importlib
import re
import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LIBRARIES = {
    "numpy": ("", ".linalg", ".fft", ".random", ".ma"),
    "scipy": (".stats", ".signal", ".optimize", ".linalg", ".sparse", ".ndimage"),
    "pandas": ("", ".api.types", ".api.extensions", ".tseries.offsets"),
    "sklearn": (".metrics", ".preprocessing", ".linear_model", ".ensemble", ".model_selection"),
    "torch": ("", ".nn", ".nn.functional", ".linalg", ".optim"),
}
# Names that would tell the answer, and usual abbreviations.
_NAMES = re.compile(r"numpy|scipy|pandas|sklearn|scikit-learn|pytorch|torch|\bnp\b|\bpd\b", re.I)
_NUMBER = re.compile(r"\d[\d.]*(e[+-]?\d+)?")


def _masked(text: str) -> str:
    """Without names and numbers, on one line. scipy draws some examples anew on each import."""
    text = _NUMBER.sub("", _NAMES.sub("library", text))
    return re.sub(r"\s*([\[\],])\s*", r"\1", re.sub(r"[\s+-]+", " ", text))


def docstrings() -> pd.DataFrame:
    """The public docstrings of five installed libraries, names masked, each text once.

    Numbers are left out too.

    Columns: ``length`` (characters), ``lines``, ``kind`` (the type of the object that is
    documented), ``text``, ``library``. How many rows there are depends on the versions installed.
    """
    rows: list[dict[str, object]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for library, parts in LIBRARIES.items():
            for part in parts:
                module = importlib.import_module(library + part)
                for name in sorted(vars(module)):
                    value = getattr(module, name)
                    text = getattr(value, "__doc__", None)
                    home = getattr(value, "__module__", None) or library
                    if name.startswith("_") or not isinstance(text, str) or len(text) < 80:
                        continue
                    if not callable(value) or not str(home).startswith(library):
                        continue
                    masked = _masked(text)
                    rows.append({
                        "length": len(masked),
                        "lines": text.count("\n") + 1,
                        "kind": type(value).__name__,
                        "text": masked,
                        "library": library,
                    })  # fmt: skip
    return pd.DataFrame(rows).drop_duplicates("text").reset_index(drop=True)


def defaults(
    rng: np.random.Generator, customers: int = 2000
) -> tuple[pd.DataFrame, pd.DataFrame, NDArray[np.int64]]:
    """Loans, weekly features, and who defaulted after the loan.

    A customer of risk z asks for a loan on a day from 30 to 60 and defaults with probability
    σ(1.5 z − 1). ``balance`` is −z and noise, always. ``calls`` is noise until the loan; in the
    weeks after it the collectors call those who defaulted.

    Returns:
        loans ``(customer, day)``; the features ``(customer, day, balance, calls)``; and y.
    """
    z = rng.standard_normal(customers)
    asked = rng.integers(30, 61, customers)
    y = (rng.random(customers) < 1 / (1 + np.exp(1 - 1.5 * z))).astype(np.int64)
    loans = pd.DataFrame({"customer": np.arange(customers), "day": asked})
    weeks = []
    for day in range(0, 92, 7):
        noise = rng.standard_normal((2, customers))
        weeks.append(pd.DataFrame({
            "customer": np.arange(customers),
            "day": day,
            "balance": -z + noise[0],
            "calls": noise[1] + 3 * y * (day > asked),
        }))  # fmt: skip
    return loans, pd.concat(weeks, ignore_index=True), y
