"""The tables that the page on feature engineering studies."""

import re

import numpy as np
import pytest

from dlcourse.ml_system_design.experiments.feature_engineering import (
    LIBRARIES,
    defaults,
    docstrings,
)


def test_docstrings_are_of_all_libraries_each_once_and_name_none():
    table = docstrings()
    assert set(table["library"]) == set(LIBRARIES)
    assert table["text"].is_unique and not table.isna().any(axis=None)
    assert not table["text"].str.contains("|".join(LIBRARIES), flags=re.I).any()
    assert table["library"].value_counts(normalize=True).max() < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_calls_tell_of_a_default_after_the_loan_only(seed):
    loans, weekly, y = defaults(np.random.default_rng(seed))
    asked, bad = loans["day"].to_numpy(), y.astype(bool)
    late = weekly["day"].to_numpy() > asked[weekly["customer"]]
    of_bad = bad[weekly["customer"]]
    calls = weekly["calls"].to_numpy()
    assert abs(calls[~late & of_bad].mean() - calls[~late & ~of_bad].mean()) < 0.05
    assert calls[late & of_bad].mean() - calls[late & ~of_bad].mean() == pytest.approx(3, abs=0.05)
    assert (weekly.groupby("customer").size() == 14).all() and 0.2 < y.mean() < 0.5


def test_a_seed_gives_the_same_loans():
    first, second = (defaults(np.random.default_rng(4), 50) for _ in range(2))
    assert first[0].equals(second[0]) and first[1].equals(second[1])
    np.testing.assert_array_equal(first[2], second[2])
