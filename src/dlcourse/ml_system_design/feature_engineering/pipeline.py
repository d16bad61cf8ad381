"""The features of a table of numbers, categories, texts and times, as one estimator.

``fit`` learns everything that is learned (bounds, medians, means, categories, vocabularies, the
first time) from the training rows; ``transform`` applies it to any rows, be it one. The work is
done by scikit-learn's ``ColumnTransformer``; here are the checks before it, and what is computed of
a row alone.

Target encoding is cross-fitted: Micci-Barreca (2001) for the shrunken mean, scikit-learn's
``TargetEncoder`` for the folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from . import _checks, _temporal

NUMERICAL = ("standardize", "signed_log", "identity")
CATEGORICAL = ("onehot", "target")
TEXT = ("tfidf",)
# The kinds of content that a column of each group may have.
_KINDS = {
    "numerical": {"boolean", "integer", "number"},
    "categorical": {"boolean", "integer", "string"},
    "text": {"string"},
    "temporal": {"datetime", "datetime with a zone"},
}


class FeaturePipeline(TransformerMixin, BaseEstimator):
    """An estimator of scikit-learn's that turns a table's columns into a matrix of features.

    Args:
        numerical: columns of numbers: a list, or how each is transformed:
            ``"standardize"`` (the default), ``"signed_log"``: sign(x) log(1 + |x|), then
            standardised, or ``"identity"``. A missing value becomes the training median, and a
            column that had any in training gets an indicator.
        categorical: columns of strings, whole numbers or booleans: ``"onehot"`` (the default), or
            ``"target"``, the cross-fitted mean of the target, for many categories. A missing value
            is a category of its own, if training had it.
        text: columns of strings: ``"tfidf"``. A missing text is an empty one.
        temporal: columns of datetimes: which of ``"hour"``, ``"weekday"``, ``"month"`` (sine and
            cosine) and ``"elapsed"`` (days since the first training time, standardised); a list
            of columns for all four. A missing time stands in the middle of each circle.
        clip: two quantiles of the training values, such as ``(0.01, 0.99)``, between which numbers
            are kept; None for as they are.
        min_frequency: one-hot categories in fewer training rows (or a smaller share, if it is a
            float below 1) are grouped as rare, and so is what training never saw. None: no group.
            Where there is no group, what training never saw is a row of zeros.
        max_text_features: the largest vocabulary of a text column, None for any.
        target_folds: folds of the cross-fitting.
        extra: ``"raise"`` for an error about a column that is in no group, or ``"ignore"``.
        random_state: seed of the folds' shuffling.

    Columns are found by name, so their order does not matter. The result is sparse
    (scipy CSR) where there is a one-hot or text feature, else dense.

    Attributes:
        columns_: the fitted ``ColumnTransformer``.
        groups_: what is made of each column, by group.
        schema_: what each column held in training.
        clip_bounds_: the two bounds of each column of numbers, if ``clip``.
        first_time_: the first training time of each column of times.
        constant_features_: numbers and categories with one value in training: left out.

    With target encoding ``fit_transform`` is not ``fit`` and then ``transform``: it encodes each
    training row by the other folds, so that a row's own target is not in its feature.
    """

    def __init__(
        self,
        *,
        numerical: Mapping[str, str] | Sequence[str] = (),
        categorical: Mapping[str, str] | Sequence[str] = (),
        text: Mapping[str, str] | Sequence[str] = (),
        temporal: Mapping[str, Sequence[str]] | Sequence[str] = (),
        clip: tuple[float, float] | None = None,
        min_frequency: int | float | None = None,
        max_text_features: int | None = None,
        target_folds: int = 5,
        extra: str = "raise",
        random_state: int = 0,
    ) -> None:
        self.numerical = numerical
        self.categorical = categorical
        self.text = text
        self.temporal = temporal
        self.clip = clip
        self.min_frequency = min_frequency
        self.max_text_features = max_text_features
        self.target_folds = target_folds
        self.extra = extra
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: Any = None) -> FeaturePipeline:
        """Learn from the training rows alone; raises as ``fit_transform``."""
        self._learn(X, y)
        return self

    def fit_transform(self, X: pd.DataFrame, y: Any = None, **fit_params: Any) -> Any:
        """Learn from the training rows, and give their features ``(n, d)``.

        Args:
            X: n ≥ 1 training rows.
            y: their targets ``(n,)``, needed by target encoding only. scikit-learn takes whole
                numbers for classes, and gives a feature for each of three or more.

        Raises:
            TypeError: X is no DataFrame, or a column holds what its group does not take.
            ValueError: a column is missing, in no group or in two; a name of a transformation or
                an option that does not exist; infinity; nothing left that varies; targets that
                are missing or belong to other rows.
        """
        if fit_params:
            raise TypeError(f"fit_transform takes no other parameters: got {sorted(fit_params)}")
        return self._learn(X, y)

    def transform(self, X: pd.DataFrame) -> Any:
        """The features of any n ≥ 0 rows, ``(n, d)``, by what ``fit`` learned.

        Raises:
            sklearn.exceptions.NotFittedError: before ``fit``.
            TypeError, ValueError: X is not as in training: as ``fit_transform``, each column named.
        """
        from scipy.sparse import csr_matrix
        from sklearn import config_context
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "columns_")
        groups = self.groups_
        self._check_schema(X, groups)
        if len(X) == 0:  # scikit-learn's steps refuse to work on no rows
            shape = (0, len(self.get_feature_names_out()))
            return csr_matrix(shape) if self.columns_.sparse_output_ else np.zeros(shape)
        with config_context(transform_output="default"):
            return self._finish(self.columns_.transform(self._prepare(X, groups)))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The d names, ``<step>__<column and what of it>``, in the order of the columns.

        Args:
            input_features: None, or the names of the training columns, as scikit-learn asks.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "columns_")
        if input_features is not None and [*input_features] != [*self.feature_names_in_]:
            raise ValueError(f"input_features must be None or {[*self.feature_names_in_]}")
        return self.columns_.get_feature_names_out()

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may give it: a table with strings and missing values."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # a DataFrame, not an array
        tags.input_tags.string = tags.input_tags.categorical = tags.input_tags.allow_nan = True
        how = self.categorical.values() if isinstance(self.categorical, Mapping) else ()
        tags.target_tags.required = "target" in how
        return tags

    # Learning

    def _learn(self, X: pd.DataFrame, y: Any) -> Any:
        """Fit all steps, and give the training rows' features."""
        vars(self).pop("columns_", None)  # a fit that fails leaves no half of the one before
        groups = self._groups()
        schema = self._kinds(X, groups)
        if len(X) == 0:
            raise ValueError("X has no row: there is nothing to learn from")
        if "target" in groups["categorical"].values():
            if y is None:
                raise ValueError("target encoding learns from the targets: give fit y too")
            if isinstance(y, pd.Series) and not y.index.equals(X.index):
                raise ValueError("y has another index than X: its targets are of other rows")
        never = [name for name in groups["temporal"] if schema[name] == "empty"]
        if never:
            raise ValueError(f"the columns {never} hold no time in training: leave them out")

        numbers = {name: _checks.numbers(X[name], repr(name)) for name in groups["numerical"]}
        self.clip_bounds_ = {}
        if self.clip is not None:
            self.clip_bounds_ = {
                name: tuple(map(float, np.nanquantile(values, self.clip)))
                for name, values in numbers.items()
                if not np.isnan(values).all()
            }
        self.first_time_ = {name: X[name].min() for name in groups["temporal"]}
        self.groups_ = groups
        self.schema_ = schema
        self.feature_names_in_ = np.array([n for n in X.columns if n in schema], dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)

        prepared = self._prepare(X, groups)
        learned = [*groups["numerical"], *groups["categorical"]]
        self.constant_features_ = [
            name for name in learned if prepared[name].nunique(dropna=False) < 2
        ]
        steps = self._steps(groups, prepared, y)
        if not steps:
            raise ValueError("every column is constant in training: there is no feature")
        from sklearn import config_context
        from sklearn.compose import ColumnTransformer

        # Sparse as soon as one step is: a threshold below 1 would make it dense.
        columns = ColumnTransformer(steps, sparse_threshold=1.0)
        with config_context(transform_output="default"):  # whatever the session's is
            features = self._finish(columns.fit_transform(prepared, y))
        self.columns_ = columns
        return features

    def _steps(self, groups: Mapping[str, dict], prepared: pd.DataFrame, y: Any) -> list[tuple]:
        """The steps of the ``ColumnTransformer``: name, transformer, its prepared columns."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.impute import MissingIndicator, SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        def chosen(group: str, *choices: str) -> list[str]:
            return [
                name
                for name, choice in groups[group].items()
                if choice in choices and name not in self.constant_features_
            ]

        plain = chosen("numerical", "identity")
        scaled = chosen("numerical", "standardize", "signed_log")
        days = {name: f"{name}_elapsed_days" for name in groups["temporal"]}
        scaled += [days[name] for name, parts in groups["temporal"].items() if "elapsed" in parts]
        absent = [name for name in chosen("numerical", *NUMERICAL) if prepared[name].isna().any()]
        absent += [name for name in days.values() if prepared[name].isna().any()]
        circles = [
            f"{name}_{part}_{function}"
            for name, parts in groups["temporal"].items()
            for part in parts
            if part != "elapsed"
            for function in ("sin", "cos")
        ]
        onehot = OneHotEncoder(
            min_frequency=self.min_frequency,
            handle_unknown="ignore" if self.min_frequency is None else "infrequent_if_exist",
            feature_name_combiner=_category_name,
        )
        median = SimpleImputer(strategy="median")
        steps = [
            ("standardized", make_pipeline(median, StandardScaler()), scaled),
            ("identity", SimpleImputer(strategy="median"), plain),
            ("missing", MissingIndicator(features="all"), absent),
            ("cyclic", SimpleImputer(strategy="constant", fill_value=0.0), circles),
            ("onehot", onehot, chosen("categorical", "onehot")),
        ]
        if encoded := chosen("categorical", "target"):
            target = _target_encoder(y, self.target_folds, self.random_state)
            steps.append(("target", target, encoded))
        for name in groups["text"]:
            if not prepared[name].str.contains(r"\w\w", regex=True).any():
                raise ValueError(f"{name!r} has no word of two letters in training: leave it out")
            words = TfidfVectorizer(max_features=self.max_text_features)
            steps.append((f"tfidf_{name}", words, name))
        return [step for step in steps if len(step[2])]

    # What is computed of a row alone, with what fit learned

    def _prepare(self, X: pd.DataFrame, groups: Mapping[str, dict]) -> pd.DataFrame:
        """Numbers clipped and logged, categories as strings, times as numbers: ``(n, columns)``."""
        made = {}
        for name, choice in groups["numerical"].items():
            x = _checks.numbers(X[name], repr(name))  # (n,)
            if name in self.clip_bounds_:
                x = np.clip(x, *self.clip_bounds_[name])  # x ← min(max(x, q_low), q_high)
            if choice == "signed_log":
                x = np.sign(x) * np.log1p(np.abs(x))  # sign(x) log(1 + |x|)
            made[name] = x
        for name in groups["categorical"]:
            made[name] = _categories(X[name], self.schema_[name])
        for name in groups["text"]:
            column = X[name].astype(object)
            made[name] = column.where(column.notna(), "").to_numpy()
        for name, parts in groups["temporal"].items():
            times = self._zoned(X[name], name)
            made[f"{name}_elapsed_days"] = _temporal.elapsed_days(times, self.first_time_[name])
            for part in parts:
                if part != "elapsed":
                    sine, cosine = _temporal.cyclic(times, part)
                    made[f"{name}_{part}_sin"], made[f"{name}_{part}_cos"] = sine, cosine
        return pd.DataFrame(made, index=X.index)

    def _zoned(self, times: pd.Series, name: str) -> pd.Series:
        """Times in the zone of the training times; 9 o'clock is then the same hour as there."""
        zone = self.first_time_[name].tzinfo
        if _checks.kind_of(times) == "empty":
            none = pd.DatetimeIndex([pd.NaT] * len(times), tz=zone)
            return pd.Series(none, index=times.index)
        return times if zone is None else times.dt.tz_convert(zone)

    def _finish(self, features: Any) -> Any:
        """float64, CSR if sparse."""
        from scipy.sparse import issparse

        return features.tocsr() if issparse(features) else np.asarray(features, dtype=np.float64)

    # Checks

    def _groups(self) -> dict[str, dict[str, Any]]:
        """Each group's columns and what is made of each, after checks of all options."""
        groups: dict[str, dict[str, Any]] = {
            "numerical": _named(self.numerical, "standardize"),
            "categorical": _named(self.categorical, "onehot"),
            "text": _named(self.text, "tfidf"),
            "temporal": _named(self.temporal, _temporal.PARTS),
        }
        allowed = {"numerical": NUMERICAL, "categorical": CATEGORICAL, "text": TEXT}
        for group, choices in allowed.items():
            for name, choice in groups[group].items():
                if choice not in choices:
                    raise ValueError(f"{group}[{name!r}] must be one of {choices}: got {choice!r}")
        for name, parts in groups["temporal"].items():
            parts = (parts,) if isinstance(parts, str) else tuple(parts)
            wrong = [part for part in parts if part not in _temporal.PARTS]
            if wrong or not parts or len(set(parts)) < len(parts):
                raise ValueError(
                    f"temporal[{name!r}] must be some of {_temporal.PARTS}, each once: got {parts}"
                )
            groups["temporal"][name] = parts
        names = [name for columns in groups.values() for name in columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the columns {twice} are named twice: give each to one group")
        if not names:
            raise ValueError("name at least one numerical, categorical, text or temporal column")
        unfit = [name for name in groups["text"] if "__" in name]
        if unfit:
            raise ValueError(f"rename {unfit}: '__' parts step and feature in scikit-learn's names")
        made = {
            f"{name}_{what}"
            for name, parts in groups["temporal"].items()
            for what in ("elapsed_days", *(f"{p}_{f}" for p in parts for f in ("sin", "cos")))
        }
        if made & set(names):
            raise ValueError(f"rename {sorted(made & set(names))}: features of times are so called")
        self._check_options()
        return groups

    def _check_options(self) -> None:
        """What is neither a column nor a transformation."""
        if self.extra not in ("raise", "ignore"):
            raise ValueError(f"extra must be 'raise' or 'ignore': got {self.extra!r}")
        if self.clip is not None:
            try:
                low, high = map(float, self.clip)
            except (TypeError, ValueError):
                raise TypeError(f"clip must be a pair of numbers: got {self.clip!r}") from None
            if not 0 <= low < high <= 1:
                raise ValueError(f"clip must be two quantiles 0 ≤ low < high ≤ 1: got {self.clip}")
        if isinstance(self.min_frequency, float):
            if not 0 < self.min_frequency < 1:
                raise ValueError(
                    f"min_frequency must be a share in (0, 1), or a whole number of rows: "
                    f"got {self.min_frequency}"
                )
        elif self.min_frequency is not None:
            _checks.count(self.min_frequency, "min_frequency")
        if self.max_text_features is not None:
            _checks.count(self.max_text_features, "max_text_features")
        if _checks.count(self.target_folds, "target_folds") < 2:
            raise ValueError("target_folds must be at least 2: a row is encoded by other folds")

    def _kinds(self, X: pd.DataFrame, groups: Mapping[str, dict]) -> dict[str, str]:
        """What each column holds, if all columns are there and hold what their group takes."""
        _checks.table(X, "X")
        _checks.present(X, [name for columns in groups.values() for name in columns], "X")
        named = {name: group for group, columns in groups.items() for name in columns}
        extra = [name for name in X.columns if name not in named]
        if extra and self.extra == "raise":
            raise ValueError(
                f"X has the columns {extra}, which are in no group: drop them, or set "
                "extra='ignore'"
            )
        kinds = {name: _checks.kind_of(X[name]) for name in named}
        wrong = [
            f"{name!r} ({named[name]}) holds {kind}"
            for name, kind in kinds.items()
            if kind != "empty" and kind not in _KINDS[named[name]]
        ]
        if wrong:
            raise TypeError("; ".join(wrong) + ": convert, or give to another group")
        return kinds

    def _check_schema(self, X: pd.DataFrame, groups: Mapping[str, dict]) -> None:
        """That each column holds what it held in training."""
        numerical = groups["numerical"]  # whole or not, a number is a number
        changed = [
            f"{name!r} held {self.schema_[name]} in training and holds {kind} now"
            for name, kind in self._kinds(X, groups).items()
            if name not in numerical and "empty" not in (kind, self.schema_[name])
            if kind != self.schema_[name]
        ]
        if changed:
            raise TypeError("; ".join(changed) + ": convert as in training")


def _named(columns: Mapping[str, Any] | Sequence[str], default: Any) -> dict[str, Any]:
    """Columns and what is made of each, the default where only their names are given."""
    if isinstance(columns, str):
        raise TypeError(f"give a list of columns or a dict: got the string {columns!r}")
    if isinstance(columns, Mapping):
        return dict(columns)
    names = list(columns)
    if len(set(names)) < len(names):
        raise ValueError(f"a column is named twice in {names}: give each to one group, once")
    return dict.fromkeys(names, default)


def _target_encoder(y: Any, folds: int, seed: int) -> Any:
    """scikit-learn's cross-fitted ``TargetEncoder`` with shuffled folds from a seed."""
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.preprocessing import TargetEncoder
    from sklearn.utils.multiclass import type_of_target

    if TargetEncoder().get_params().get("random_state", "deprecated") is None:  # before 1.9
        return TargetEncoder(cv=folds, random_state=seed)
    split = StratifiedKFold if type_of_target(y) in ("binary", "multiclass") else KFold
    return TargetEncoder(cv=split(folds, shuffle=True, random_state=seed))


def _categories(column: pd.Series, kind: str) -> np.ndarray:
    """Categories as strings ``(n,)``, NaN where missing, alike for 3 and for 3.0.

    A column of whole numbers turns into floats as soon as one is missing.
    """
    values = column.astype(object)
    there = values.notna().to_numpy(dtype=bool)
    coded = np.full(len(values), np.nan, dtype=object)
    convert = (lambda value: str(int(value))) if kind == "integer" else str
    coded[there] = [convert(value) for value in values[there]]
    return coded


def _category_name(feature: str, category: Any) -> str:
    """A missing value's column has another name than that of the text "nan"."""
    return f"{feature}_{'(missing)' if category != category else category}"
