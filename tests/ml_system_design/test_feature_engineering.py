"""Facts about the features of section 123.1: what is learned where, and what may be known when."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import hstack, issparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, StandardScaler
from sklearn.utils import estimator_checks

from dlcourse.ml_system_design import (
    FeaturePipeline,
    OneHot,
    Standardizer,
    lag_features,
    point_in_time_join,
    train_serve_skew,
)


def dense(features):
    return features.toarray() if issparse(features) else np.asarray(features)


# Fit and transform by hand


@pytest.mark.parametrize("seed", range(10))
def test_standardizer_is_scikit_learns_constant_columns_included(seed):
    rng = np.random.default_rng(seed)
    n, d = (int(k) for k in rng.integers(1, 30, 2))
    train = rng.normal(rng.normal(size=d) * 1e3, rng.lognormal(size=d), (n, d))
    train[:, 0] = rng.choice([0.0, 0.1, 1e8 + 0.1, -1 / 3])  # its variance may be rounding
    new = rng.normal(size=(7, d))
    ours, theirs = Standardizer().fit(train), StandardScaler().fit(train)
    np.testing.assert_allclose(ours.transform(new), theirs.transform(new), rtol=1e-9, atol=1e-9)
    assert np.isfinite(ours.transform(new)).all() and ours.scale[0] == 1.0
    assert ours.transform(new[:0]).shape == (0, d)


def test_standardizer_gives_a_row_alone_what_it_gives_it_among_others():
    rng = np.random.default_rng(0)
    scaler, new = Standardizer().fit(rng.normal(size=(50, 3))), rng.normal(size=(9, 3))
    alone = np.vstack([scaler.transform(row[None]) for row in new])
    np.testing.assert_array_equal(alone, scaler.transform(new))


@given(
    st.lists(st.text(max_size=3), min_size=1, max_size=20),
    st.lists(st.text(max_size=3), max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_one_hot_is_scikit_learns_for_strings(train, new):
    ours = OneHot().fit(train)
    theirs = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    theirs.fit(np.array(train, dtype=object)[:, None])
    assert ours.categories == theirs.categories_[0].tolist()
    for values in (train, new):
        coded = ours.transform(values)
        assert coded.shape == (len(values), len(set(train)))
        if values:
            expected = theirs.transform(np.array(values, dtype=object)[:, None])
            np.testing.assert_array_equal(coded, expected)


def test_one_hot_of_whole_numbers_and_of_what_training_never_saw():
    encoder = OneHot().fit(np.array([10, 9, 10]))
    assert encoder.categories == [9, 10]
    assert encoder.transform([10, 7]).tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: Standardizer().transform([[1.0]]), RuntimeError, "call fit"),
        (lambda: Standardizer().fit([1.0, 2.0]), ValueError, r"\(n, d\)"),
        (lambda: Standardizer().fit(np.empty((0, 2))), ValueError, "no row"),
        (lambda: Standardizer().fit([[np.nan]]), ValueError, "fill"),
        (lambda: Standardizer().fit([["a"]]), TypeError, "real numbers"),
        (lambda: Standardizer().fit([[1.0]]).transform([[1.0, 2.0]]), ValueError, "1 columns"),
        (lambda: OneHot().transform(["a"]), RuntimeError, "call fit"),
        (lambda: OneHot().fit([]), ValueError, "empty"),
        (lambda: OneHot().fit("abc"), TypeError, "not one string"),
        (lambda: OneHot().fit(["a", None]), TypeError, "missing"),
        (lambda: OneHot().fit([True]), TypeError, "string or a whole number"),
        (lambda: OneHot().fit([1.5]), TypeError, "string or a whole number"),
        (lambda: OneHot().fit(["a", 1]), TypeError, "mixes"),
        (lambda: OneHot().fit(["a"]).transform([1]), TypeError, "convert"),
    ],
)
def test_the_hand_written_pair_says_what_is_wrong(call, error, match):
    with pytest.raises(error, match=match):
        call()


# Lags


def lag_reference(frame, entity, time, column, lags, windows):
    """Row by row: what the entity's strictly earlier rows hold, newest first."""
    rows = []
    for _, row in frame.iterrows():
        earlier = frame[(frame[entity] == row[entity]) & (frame[time] < row[time])]
        past = earlier.sort_values(time, ascending=False)[column].tolist()
        made = [past[k - 1] if len(past) >= k else np.nan for k in lags]
        for w in windows:
            there = [x for x in past[:w] if not np.isnan(x)]
            made.append(np.mean(there) if there else np.nan)
        rows.append(made)
    return np.array(rows, dtype=float).reshape(len(frame), len(lags) + len(windows))


def visits(rng, n, entities=4, missing=0.2):
    """Rows of some entities at times that do not repeat within one, in no order."""
    frame = pd.DataFrame({
        "user": rng.choice([*"abcdefg"[:entities]], n),
        "when": rng.permutation(n),
        "spent": np.where(rng.random(n) < missing, np.nan, rng.normal(size=n)),
    })  # fmt: skip
    return frame.set_index(rng.integers(0, 5, n))  # an index with doubles


@pytest.mark.parametrize("seed", range(30))
def test_lags_and_trailing_means_are_those_of_the_readable_reference(seed):
    rng = np.random.default_rng(seed)
    frame = visits(rng, int(rng.integers(0, 40)))
    if seed % 2:
        frame["when"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame["when"], unit="h")
    made = lag_features(frame, "user", "when", ["spent"], [1, 3], [1, 2, 5])
    names = ["spent_lag_1", "spent_lag_3", "spent_mean_1", "spent_mean_2", "spent_mean_5"]
    assert list(made.columns) == names and made.index.equals(frame.index)
    expected = lag_reference(frame, "user", "when", "spent", [1, 3], [1, 2, 5])
    np.testing.assert_allclose(made.to_numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_changing_the_present_and_the_future_changes_no_lag(seed):
    rng = np.random.default_rng(seed)
    frame = visits(rng, 40)
    now = int(rng.integers(5, 25))
    changed = frame.copy()
    later = (frame["when"] >= now).to_numpy()
    changed.loc[later, "spent"] = 1e9 * rng.normal(size=later.sum())
    seen = (frame["when"] <= now).to_numpy()
    before, after, without = (
        lag_features(f, "user", "when", ["spent"], [1, 2], [3])
        for f in (frame, changed, frame[seen])
    )
    pd.testing.assert_frame_equal(before[seen], after[seen])
    pd.testing.assert_frame_equal(before[seen], without)
    assert not before[~seen].equals(after[~seen])  # they do see what is their own past


def test_a_trailing_mean_with_the_present_row_would_hold_the_answer():
    # What rolling() gives without a shift: the row's own value is in its feature.
    frame = pd.DataFrame({"user": ["a"] * 3, "when": [1, 2, 3], "spent": [1.0, 2.0, 9.0]})
    leaky = frame["spent"].rolling(2, min_periods=1).mean()
    ours = lag_features(frame, "user", "when", ["spent"], [], [2])["spent_mean_2"]
    assert leaky.tolist() == [1.0, 1.5, 5.5]
    np.testing.assert_array_equal(ours, [np.nan, 1.0, 1.5])


def test_a_row_of_no_entity_has_no_past_and_is_no_ones_past():
    frame = pd.DataFrame(
        {"user": ["a", None, None, "a"], "when": [1, 1, 2, 3], "x": [1, 2, 3, 4]}
    )
    made = lag_features(frame, "user", "when", ["x"])["x_lag_1"]
    np.testing.assert_array_equal(made, [np.nan, np.nan, np.nan, 1.0])


VISITS = pd.DataFrame({"user": ["a", "a"], "when": [1, 2], "x": [1.0, 2.0], "s": ["p", "q"]})


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"frame": [1]}, TypeError, "DataFrame"),
        ({"entity": "no"}, ValueError, r"lacks the columns \['no'\]"),
        ({"columns": "x"}, TypeError, r"write \['x'\]"),
        ({"columns": []}, ValueError, "at least one column"),
        ({"columns": ["s"]}, TypeError, "'s' must hold numbers"),
        ({"time": "s"}, TypeError, "times or numbers"),
        ({"lags": [0]}, ValueError, "at least 1"),
        ({"lags": [-1]}, ValueError, "at least 1"),
        ({"lags": [1.5]}, TypeError, "whole number"),
        ({"windows": [True]}, TypeError, "whole number"),
        ({"lags": []}, ValueError, "one lag or window"),
        ({"frame": VISITS.assign(when=[1, 1])}, ValueError, "'a' has several rows at when 1"),
        ({"frame": VISITS.assign(when=[1, np.nan])}, ValueError, "missing times"),
        ({"frame": VISITS.assign(x=[1, np.inf])}, ValueError, "infinity"),
    ],
)
def test_lag_features_says_what_is_wrong(change, error, match):
    given = {"frame": VISITS, "entity": "user", "time": "when", "columns": ["x"]}
    with pytest.raises(error, match=match):
        lag_features(**(given | change))


# The join


def join_reference(events, features, tolerance, delay, strict):
    """O(n·m): for each event the position of its feature row, −1 for none."""
    rows = []
    for t, e in zip(events["t"], events["user"]):
        best = -1
        for i, (s, f) in enumerate(zip(features["t"], features["user"])):
            same = not pd.isna(e) and not pd.isna(f) and e == f
            available = s + delay < t if strict else s + delay <= t
            newer = best < 0 or s >= features["t"].iloc[best]  # of a tie the last
            if same and available and newer:
                best = i
        if best >= 0 and tolerance is not None and t - features["t"].iloc[best] > tolerance:
            best = -1
        rows.append(best)
    return rows


def moments(rng, n, kind):
    ticks = rng.integers(0, 12, n)  # few, so that many tie
    if kind == "int":
        return ticks
    if kind == "float":
        return ticks / 4
    dates = pd.Timestamp("2024-03-30 20:00") + pd.to_timedelta(ticks, unit="h")
    return dates.tz_localize("UTC").tz_convert("Europe/Rome") if kind == "zone" else dates


@pytest.mark.parametrize("kind", ["int", "float", "date", "zone"])
@pytest.mark.parametrize("seed", range(40))
def test_the_join_is_that_of_the_readable_reference(kind, seed):
    rng = np.random.default_rng([seed, len(kind)])
    n, m = (int(k) for k in rng.integers(0, 25, 2))
    users = np.array(["a", "b", "c", None], dtype=object)
    events = pd.DataFrame({"t": moments(rng, n, kind), "user": rng.choice(users, n)})
    events.index = rng.integers(0, 5, n)
    features = pd.DataFrame(
        {"x": np.arange(m), "user": rng.choice(users[1:], m), "t": moments(rng, m, kind)}
    )
    unit = {"int": 1, "float": 0.25}.get(kind, pd.Timedelta(hours=1))
    delay = None if rng.random() < 0.3 else int(rng.integers(0, 4)) * unit
    tolerance = None if rng.random() < 0.3 else int(rng.integers(0, 6)) * unit
    strict = bool(rng.integers(0, 2))
    joined = point_in_time_join(events, features, "t", "user", tolerance, delay, strict=strict)

    wait = unit * 0 if delay is None else delay
    rows = join_reference(events, features, tolerance, wait, strict)
    np.testing.assert_array_equal(joined["x"].fillna(-1).to_numpy(dtype=int), rows)
    assert list(joined.columns) == ["t", "user", "t_feature", "x"]
    pd.testing.assert_frame_equal(joined[["t", "user"]], events)
    found = joined[joined["x"].notna()]
    assert (found["t_feature"] + wait <= found["t"]).all()
    assert found["t_feature"].tolist() == [features["t"].iloc[r] for r in rows if r >= 0]


def test_features_of_the_future_change_nothing():
    rng = np.random.default_rng(0)
    events = pd.DataFrame({"t": rng.integers(0, 50, 30), "user": rng.choice([*"ab"], 30)})
    features = pd.DataFrame(
        {"t": rng.integers(0, 100, 60), "user": rng.choice([*"ab"], 60), "x": rng.normal(size=60)}
    )
    before = point_in_time_join(events, features, "t", "user", delay=3)
    future = features["t"] + 3 > events["t"].max()
    assert future.sum() > 20
    changed = features.assign(x=features["x"].where(~future, 1e9))
    for other in (changed, features[~future]):
        after = point_in_time_join(events, other, "t", "user", delay=3)
        pd.testing.assert_frame_equal(before, after)
    assert not before.equals(point_in_time_join(events, features, "t", "user"))  # no delay


def test_a_plain_merge_on_the_entity_brings_the_future_in():
    events = pd.DataFrame({"t": [2], "user": ["a"]})
    features = pd.DataFrame({"t": [1, 3], "user": ["a", "a"], "frauds": [0, 1]})
    latest = features.groupby("user").last()  # the table as it stands today
    assert events.merge(latest["frauds"], on="user")["frauds"].item() == 1
    assert point_in_time_join(events, features, "t", "user")["frauds"].item() == 0


def test_times_of_other_units_are_not_rounded_into_the_past():
    event = pd.DataFrame({"t": pd.to_datetime(["2024-01-01 00:00:10"]), "user": [1]})
    feature = pd.DataFrame({"t": pd.to_datetime(["2024-01-01 00:00:10.9"]), "user": [1], "x": [5]})
    event["t"], feature["t"] = event["t"].dt.as_unit("s"), feature["t"].dt.as_unit("ms")
    assert point_in_time_join(event, feature, "t", "user")["x"].isna().all()
    event["t"] += pd.Timedelta(seconds=1)
    assert point_in_time_join(event, feature, "t", "user")["x"].tolist() == [5]


def test_a_delay_between_two_whole_numbers_and_a_zone_that_differs():
    events = pd.DataFrame({"t": [2, 3], "user": [1, 1]})
    features = pd.DataFrame({"t": [1], "user": [1], "x": [5]})
    joined = point_in_time_join(events, features, "t", "user", delay=1.5)
    np.testing.assert_array_equal(joined["x"], [np.nan, 5])
    noon = pd.Timestamp("2024-01-01 12:00", tz="UTC")
    events = pd.DataFrame({"t": [noon], "user": [1]})
    features = pd.DataFrame({"t": [noon.tz_convert("Asia/Tokyo")], "user": [1], "x": [5]})
    assert point_in_time_join(events, features, "t", "user")["x"].tolist() == [5]
    assert point_in_time_join(events, features, "t", "user", strict=True)["x"].isna().all()


def test_whole_numbers_beyond_float64_are_compared_exactly():
    big = 2**53
    events = pd.DataFrame({"t": [big], "user": [big]})
    features = pd.DataFrame({"t": [big + 1, big], "user": [big, big + 1], "x": [1, 2]})
    assert point_in_time_join(events, features, "t", "user")["x"].isna().all()


EVENTS = pd.DataFrame({"t": [1, 2], "user": ["a", "b"]})
FACTS = pd.DataFrame({"t": [1, 2], "user": ["a", "b"], "x": [1, 2]})
DATED = {
    "events": EVENTS.assign(t=pd.to_datetime(["2024-01-01", "2024-01-02"])),
    "features": FACTS.assign(t=pd.to_datetime(["2024-01-01", "2024-01-02"])),
}


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"events": {}}, TypeError, "events must be a pandas DataFrame"),
        ({"on": "no"}, ValueError, "events lacks"),
        ({"by": "t"}, ValueError, "two columns"),
        ({"features": FACTS.drop(columns="user")}, ValueError, r"features lacks .*'user'"),
        ({"events": EVENTS.assign(x=0)}, ValueError, r"rename columns of features: \['x'\]"),
        ({"events": EVENTS.assign(t_feature=0)}, ValueError, "t_feature"),
        ({"events": EVENTS.assign(t=[1, np.nan])}, ValueError, r"events\['t'\] has missing times"),
        ({"features": DATED["features"]}, TypeError, "in both tables"),
        ({"features": FACTS.assign(user=[1, 2])}, TypeError, "different kinds"),
        ({"events": EVENTS.assign(t=["x", "y"])}, TypeError, "datetimes, or numbers"),
        ({"events": EVENTS.assign(t=[1.5, np.inf])}, ValueError, "finite"),
        ({"delay": -1}, ValueError, "delay must be finite and at least 0"),
        ({"tolerance": -1}, ValueError, "tolerance must be finite and at least 0"),
        ({"tolerance": "7D"}, TypeError, "tolerance must be a number"),
        (DATED | {"delay": 7}, TypeError, "timedelta"),
        (DATED | {"delay": "soon"}, TypeError, "timedelta"),
        (DATED | {"delay": "-1D"}, ValueError, "at least 0"),
    ],
)
def test_the_join_says_what_is_wrong(change, error, match):
    given = {"events": EVENTS, "features": FACTS, "on": "t", "by": "user"}
    with pytest.raises(error, match=match):
        point_in_time_join(**(given | change))


# Skew of two paths


def paths():
    rng = np.random.default_rng(0)
    offline = pd.DataFrame({
        "age": rng.normal(size=50),
        "job": rng.choice([*"xyz"], 50),
        "seen": pd.date_range("2024-01-01", periods=50),
        "rich": rng.random(50) < 0.5,
    }, index=[f"request-{i}" for i in range(50)])  # fmt: skip
    offline.loc["request-3", ["age", "job", "seen"]] = None
    return offline, offline.copy()


def test_equal_features_in_another_order_of_rows_and_columns_are_no_skew():
    offline, online = paths()
    report = train_serve_skew(offline, online.sample(frac=1, random_state=0).iloc[:, ::-1])
    assert not report and report.rows == 50 and str(report) == "50 rows compared: no skew"
    assert not train_serve_skew(offline, online.astype({"age": np.float32}))  # rounding only


def test_two_rows_swapped_are_found_though_the_distributions_are_equal():
    offline, online = paths()
    rows = ["request-7", "request-9"]
    online.loc[rows, "age"] = offline.loc[rows[::-1], "age"].to_numpy()
    assert sorted(online["age"].dropna()) == sorted(offline["age"].dropna())
    report = train_serve_skew(offline, online)
    (column,) = report.columns
    assert report and (column.column, column.different, column.first_row) == ("age", 2, rows[0])
    gap = abs(offline.loc[rows[0], "age"] - offline.loc[rows[1], "age"])
    assert column.largest == pytest.approx(gap) and column.share == 2 / 50
    assert "age: 2 rows (4.0%) differ" in str(report)


def test_a_missing_value_equals_a_missing_value_only():
    offline, online = paths()
    online.loc["request-5", ["age", "job", "seen"]] = None
    report = train_serve_skew(offline, online)
    assert {c.column for c in report.columns} == {"age", "job", "seen"}
    for column in report.columns:
        assert (column.different, column.one_missing, column.first_row) == (1, 1, "request-5")
        assert np.isnan(column.largest)


def test_what_only_one_path_has_is_named():
    offline, online = paths()
    online = online.drop(columns="rich").assign(new=1).drop(index="request-0")
    report = train_serve_skew(offline.drop(index="request-1"), online)
    assert report.only_offline_columns == ("rich",) and report.only_online_columns == ("new",)
    assert report.only_offline_rows == ("request-0",)
    assert report.only_online_rows == ("request-1",)
    assert report.rows == 48 and report.columns == ()
    assert "columns only offline: rich" in str(report)


def test_numbers_and_strings_and_infinities_differ_and_the_worst_column_comes_first():
    a = pd.DataFrame({"n": [1.0, 2.0], "i": [np.inf, np.inf], "z": [0, 1]})
    b = pd.DataFrame({"n": ["1.0", "2.0"], "i": [np.inf, -np.inf], "z": [False, True]})
    report = train_serve_skew(a, b)
    assert [(c.column, c.different) for c in report.columns] == [("n", 2), ("i", 1)]
    finite = train_serve_skew(pd.DataFrame({"i": [1.0]}), pd.DataFrame({"i": [np.inf]}))
    assert finite.columns[0].different == 1


def test_whole_numbers_of_a_whole_dtype_must_be_the_same():
    # Of an id of eight digits the tolerance for rounding would forgive the last two.
    a, b = pd.DataFrame({"id": [2**60, 12345678]}), pd.DataFrame({"id": [2**60 + 1, 12345679]})
    assert train_serve_skew(a, b).columns[0].different == 2
    assert not train_serve_skew(a.astype(float), b.astype(float))


def test_rows_may_have_ids_of_several_parts_and_columns_may_be_sparse():
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)])
    a = pd.DataFrame({"x": pd.arrays.SparseArray([0.0, 1.0, 0.0])}, index=index)
    b = pd.DataFrame({"x": [0.0, 1.0, 2.0]}, index=index)
    (column,) = train_serve_skew(a, b.iloc[::-1]).columns
    assert (column.first_row, column.different, column.largest) == (("b", 1), 1, 2.0)


@given(st.lists(st.one_of(st.floats(), st.none()), min_size=1, max_size=8), st.data())
@settings(max_examples=60, deadline=None)
def test_skew_agrees_with_a_comparison_cell_by_cell(values, data):
    others = [data.draw(st.sampled_from([v, 0.0, None, float("inf")])) for v in values]
    report = train_serve_skew(
        pd.DataFrame({"x": pd.Series(values, dtype=float)}),
        pd.DataFrame({"x": pd.Series(others, dtype=float)}),
    )

    def same(a, b):
        if pd.isna(a) or pd.isna(b):
            return pd.isna(a) and pd.isna(b)
        return a == b or (
            np.isfinite([a, b]).all() and abs(a - b) <= 1e-9 + 1e-6 * max(abs(a), abs(b))
        )

    different = sum(not same(a, b) for a, b in zip(values, others))
    assert sum(c.different for c in report.columns) == different


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"offline": [1]}, TypeError, "offline must be a pandas DataFrame"),
        ({"online": EVENTS.set_index([[1, 1]])}, ValueError, "online has 1 twice"),
        ({"online": EVENTS.set_index([[8, 9]])}, ValueError, "no row is in both"),
        ({"rtol": -1}, ValueError, "rtol"),
        ({"atol": np.nan}, ValueError, "atol"),
    ],
)
def test_train_serve_skew_says_what_is_wrong(change, error, match):
    with pytest.raises(error, match=match):
        train_serve_skew(**({"offline": EVENTS, "online": EVENTS} | change))


# The pipeline


def people(rng, n):
    """A table of all four kinds with missing values, and targets."""
    frame = pd.DataFrame({
        "age": rng.normal(40, 10, n),
        "balance": rng.normal(size=n) * rng.lognormal(3, 2, n),
        "children": rng.integers(0, 4, n).astype(float),
        "job": rng.choice(["clerk", "nurse", "pilot", None], n, p=[0.5, 0.3, 0.1, 0.1]),
        "floor": rng.integers(0, 3, n),
        "town": rng.choice([f"town {i}" for i in range(15)], n),
        "note": rng.choice(["likes blue cars", "red cars", "blue boats sail", None], n),
        "joined": pd.Timestamp("2023-05-06") + pd.to_timedelta(rng.integers(0, 9000, n), "h"),
    }, index=rng.permutation(n) + 100)  # fmt: skip
    for name in ("age", "children", "joined"):
        frame.loc[rng.random(n) < 0.15, name] = None
    return frame, rng.integers(0, 2, n)


GROUPS = {
    "numerical": {"age": "standardize", "balance": "signed_log", "children": "identity"},
    "categorical": {"job": "onehot", "floor": "onehot", "town": "target"},
    "text": ["note"],
    "temporal": {"joined": ["hour", "weekday", "month", "elapsed"]},
}
UNTARGETED = GROUPS | {"categorical": ["job", "floor"]}


@pytest.mark.parametrize("seed", range(8))
def test_the_pipeline_is_scikit_learns_steps_composed_by_hand(seed):
    rng = np.random.default_rng(seed)
    (train, y), (new, _) = people(rng, 120), people(rng, 40)
    ours = FeaturePipeline(**UNTARGETED, clip=(0.05, 0.95)).fit(train.drop(columns="town"), y)

    def clipped(name, frame):
        return np.clip(frame[[name]].to_numpy(), *np.nanquantile(train[name], [0.05, 0.95]))

    def logged(frame):
        x = clipped("balance", frame)
        return np.where(x < 0, -np.log1p(np.abs(x)), np.log1p(np.abs(x)))

    start = train["joined"].min()

    def days(frame):
        return ((frame["joined"] - start).dt.total_seconds() / 86400).to_numpy()[:, None]

    scale = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    blocks = [
        clone(scale).fit(f(train)).transform(f(new))
        for f in (lambda frame: clipped("age", frame), logged, days)
    ]
    kids = SimpleImputer(strategy="median").fit(clipped("children", train))
    blocks.append(kids.transform(clipped("children", new)))
    blocks.append(new[["age", "children", "joined"]].isna().to_numpy(dtype=float))
    when = new["joined"].dt
    for part, period in ((when.hour, 24), (when.day_of_week, 7), (when.month - 1, 12)):
        angle = 2 * np.pi * part.to_numpy() / period
        blocks += [np.nan_to_num(f(angle))[:, None] for f in (np.sin, np.cos)]
    for name in ("job", "floor"):
        encoder = OneHotEncoder(handle_unknown="ignore").fit(train[[name]].astype(object))
        blocks.append(encoder.transform(new[[name]].astype(object)))
    words = TfidfVectorizer().fit(train["note"].fillna(""))
    blocks.append(words.transform(new["note"].fillna("")))

    made = ours.transform(new.drop(columns="town"))
    expected = hstack(blocks).toarray()
    assert made.shape == expected.shape == (40, len(ours.get_feature_names_out()))
    np.testing.assert_allclose(made.toarray(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_a_row_alone_has_the_features_that_it_has_among_others(seed):
    rng = np.random.default_rng(seed)
    (train, y), (new, _) = people(rng, 60), people(rng, 12)
    pipeline = FeaturePipeline(**GROUPS, clip=(0.01, 0.99), min_frequency=2).fit(train, y)
    together = pipeline.transform(new).toarray()
    alone = [pipeline.transform(new.iloc[[i]]).toarray()[0] for i in range(len(new))]
    np.testing.assert_allclose(alone, together, rtol=1e-12, atol=1e-12)
    # As serving would build it, from a record: None stands for what is missing.
    record = {k: None if pd.isna(v) else v for k, v in new.iloc[0].items()}
    served = pipeline.transform(pd.DataFrame([record]))
    np.testing.assert_allclose(served.toarray()[0], together[0], rtol=1e-12, atol=1e-12)
    shuffled = new.iloc[::-1, ::-1]
    np.testing.assert_allclose(pipeline.transform(shuffled).toarray()[::-1], together, rtol=1e-12)


def test_the_batch_path_and_the_serving_path_show_no_skew():
    rng = np.random.default_rng(0)
    (train, y), (new, _) = people(rng, 60), people(rng, 12)
    pipeline = FeaturePipeline(**GROUPS).fit(train, y)
    names = pipeline.get_feature_names_out()

    def features(frame, fitted):
        made = fitted.transform(frame).toarray()
        return pd.DataFrame(made, index=frame.index, columns=fitted.get_feature_names_out())

    offline = features(new, pipeline)
    online = pd.concat([features(new.iloc[[i]], pipeline) for i in range(len(new))])
    assert not train_serve_skew(offline, online) and list(offline.columns) == list(names)
    # Fitted anew on what serving sees, the features are others: that is the listing.
    refit = FeaturePipeline(**GROUPS).fit(new, rng.permutation([0, 1] * 6))
    report = train_serve_skew(offline, features(new, refit))
    assert "standardized__age" in {column.column for column in report.columns}


def test_what_is_learned_is_learned_of_the_training_rows():
    rng = np.random.default_rng(0)
    frame, y = people(rng, 90)
    train, y_train, test = frame.iloc[:60], y[:60], frame.iloc[60:].copy()
    before = train.copy()
    pipeline = FeaturePipeline(**GROUPS, clip=(0.1, 0.9))
    features = pipeline.fit_transform(train, y_train).toarray()
    first = pipeline.transform(train).toarray()
    test["age"], test["job"] = 1e6, "astronaut"
    pipeline.transform(test)
    np.testing.assert_array_equal(pipeline.transform(train).toarray(), first)
    pd.testing.assert_frame_equal(train, before)  # nor is the table changed
    names = list(pipeline.get_feature_names_out())
    others = [i for i, name in enumerate(names) if not name.startswith("target__")]
    np.testing.assert_array_equal(features[:, others], first[:, others])
    assert pipeline.clip_bounds_["age"] == tuple(np.nanquantile(train["age"], [0.1, 0.9]))
    assert abs(first[:, names.index("standardized__age")].mean()) < 1e-12


def test_a_missing_number_becomes_the_training_median_with_an_indicator():
    train = pd.DataFrame({"x": [1.0, 2.0, 9.0, None], "full": [1.0, 2.0, 3.0, 4.0]})
    pipeline = FeaturePipeline(numerical={"x": "identity", "full": "identity"}).fit(train)
    names = ["identity__x", "identity__full", "missing__missingindicator_x"]
    assert pipeline.get_feature_names_out().tolist() == names
    # A column without missing values in training has no indicator: no weight was learned for it.
    served = pipeline.transform(pd.DataFrame({"x": [None, 5.0], "full": [np.nan, 7.0]}))
    assert served.tolist() == [[2.0, 2.5, 1.0], [5.0, 7.0, 0.0]]


def test_the_signed_log_is_odd_finite_and_monotone():
    x = np.array([-1e300, -5.0, -1.0, -0.5, 0.0, 0.5, 1.0, 5.0, 1e300])
    pipeline = FeaturePipeline(numerical={"x": "signed_log"}).fit(pd.DataFrame({"x": x}))
    made = pipeline.transform(pd.DataFrame({"x": x}))[:, 0]
    assert np.isfinite(made).all() and (np.diff(made) > 0).all()
    np.testing.assert_allclose(made, -made[::-1], atol=1e-12)  # symmetric x has mean 0


def test_numbers_beyond_the_training_quantiles_are_kept_at_them():
    train = pd.DataFrame({"x": np.arange(101.0)})
    pipeline = FeaturePipeline(numerical={"x": "identity"}, clip=(0.1, 0.9)).fit(train)
    made = pipeline.transform(pd.DataFrame({"x": [-1e9, 10.0, 50.0, 91.0, 1e9]}))
    assert made[:, 0].tolist() == [10.0, 10.0, 50.0, 90.0, 90.0]


def test_columns_with_one_value_in_training_are_left_out():
    train = pd.DataFrame({"x": [1.0, 2.0], "same": [3, 3], "none": [None, None], "c": ["a", "a"]})
    groups = {"numerical": ["x", "same", "none"], "categorical": ["c"]}
    pipeline = FeaturePipeline(**groups).fit(train)
    assert pipeline.constant_features_ == ["same", "none", "c"]
    assert pipeline.get_feature_names_out().tolist() == ["standardized__x"]
    served = pipeline.transform(train.assign(same=[4, 5], none=[1.0, 2.0], c=["a", "b"]))
    np.testing.assert_array_equal(served, [[-1.0], [1.0]])


def test_what_training_never_saw_is_a_row_of_zeros_or_rare():
    train = pd.DataFrame({"c": [*"aaabbbxy"]})
    new = pd.DataFrame({"c": ["a", "y", "new", None]})
    plain = FeaturePipeline(categorical=["c"]).fit(train)
    assert plain.transform(new).sum(axis=1).ravel().tolist() == [[1, 1, 0, 0]]
    grouped = FeaturePipeline(categorical=["c"], min_frequency=2).fit(train)
    names = ["onehot__c_a", "onehot__c_b", "onehot__c_infrequent_sklearn"]
    assert grouped.get_feature_names_out().tolist() == names
    rare = [[1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]]
    assert grouped.transform(new).toarray().tolist() == rare
    share = FeaturePipeline(categorical=["c"], min_frequency=0.25).fit(train)
    assert share.transform(new).toarray().tolist() == rare


def test_a_missing_category_is_a_category_if_training_had_it():
    train = pd.DataFrame({"c": ["a", None, "b", np.nan]}, dtype=object)
    pipeline = FeaturePipeline(categorical=["c"]).fit(train)
    names = ["onehot__c_a", "onehot__c_b", "onehot__c_(missing)"]
    assert pipeline.get_feature_names_out().tolist() == names
    for missing in (None, np.nan, pd.NA):
        frame = pd.DataFrame({"c": pd.Series([missing], dtype=object)})
        assert pipeline.transform(frame).toarray().tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("dtype", ["float64", "Int64", "int8", "category", object])
def test_a_category_of_whole_numbers_is_the_same_whatever_its_dtype(dtype):
    # A missing value turns 3 into 3.0, and a careless str() into another category.
    pipeline = FeaturePipeline(categorical=["c"]).fit(pd.DataFrame({"c": [3, 4, 5]}))
    served = pipeline.transform(pd.DataFrame({"c": pd.Series([4, 3]).astype(dtype)}))
    assert served.toarray().tolist() == [[0, 1, 0], [1, 0, 0]]
    with_missing = pipeline.transform(pd.DataFrame({"c": [4, None]}))
    assert with_missing.toarray().tolist() == [[0, 1, 0], [0, 0, 0]]


def test_a_target_encoded_row_does_not_hold_its_own_target():
    # 1,000 names of no meaning. A mean over all rows holds the row's own target.
    rng = np.random.default_rng(0)
    train, test = (pd.DataFrame({"c": rng.integers(0, 1000, 3000)}) for _ in range(2))
    y, y_test = rng.integers(0, 2, 3000), rng.integers(0, 2, 3000)
    naive = pd.Series(y).groupby(train["c"]).transform("mean")
    pipeline = FeaturePipeline(categorical={"c": "target"})
    crossed = pipeline.fit_transform(train, y)[:, 0]
    assert roc_auc_score(y, naive) > 0.75
    assert 0.45 < roc_auc_score(y, crossed) < 0.55
    assert 0.45 < roc_auc_score(y_test, pipeline.transform(test)[:, 0]) < 0.55
    assert roc_auc_score(y, pipeline.transform(train)[:, 0]) > 0.75  # hence fit_transform


def test_a_target_changes_the_features_of_other_folds_only():
    rng = np.random.default_rng(0)
    frame, y = pd.DataFrame({"c": rng.integers(0, 3, 100)}), rng.normal(size=100)
    other = y.copy()
    other[7] += 10
    before, after = (
        FeaturePipeline(categorical={"c": "target"}, random_state=1).fit_transform(frame, target)
        for target in (y, other)
    )
    folds = KFold(5, shuffle=True, random_state=1).split(y)
    (own,) = [np.isin(np.arange(100), held) for _, held in folds if 7 in held]
    np.testing.assert_array_equal(before[own], after[own])  # row 7 is one of these
    alike = (frame["c"] == frame["c"][7]).to_numpy()
    assert (before[~own & alike] != after[~own & alike]).all()


def test_target_encoding_of_a_real_target_depends_on_the_seed_alone():
    rng = np.random.default_rng(0)
    frame, y = pd.DataFrame({"c": rng.choice([*"abc"], 200)}), rng.normal(size=200)
    y += frame["c"] == "a"

    def made(seed):
        pipeline = FeaturePipeline(categorical={"c": "target"}, random_state=seed)
        return pipeline.fit_transform(frame, pd.Series(y))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(made(1), made(1))
    assert not np.array_equal(made(1), made(2))
    pipeline = FeaturePipeline(categorical={"c": "target"}).fit(frame, y)
    unseen = pipeline.transform(pd.DataFrame({"c": ["new"]}))
    assert unseen.item() == pytest.approx(y.mean())  # nothing known: the overall mean


def test_sparse_stays_sparse():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"word{w}" for w in rng.integers(0, 5000, 8)) for _ in range(2000)]
    frame = pd.DataFrame({"t": texts, "x": rng.normal(size=2000)})
    features = FeaturePipeline(text=["t"], numerical=["x"]).fit_transform(frame)
    assert issparse(features) and features.format == "csr" and features.nnz <= 2000 * 9
    assert features.shape[1] > 4000
    stored = features.data.nbytes + features.indices.nbytes + features.indptr.nbytes
    assert 100 * stored < 8 * features.shape[0] * features.shape[1]
    small = FeaturePipeline(text=["t"], max_text_features=10).fit(frame[["t"]])
    assert small.transform(frame[["t"]]).shape == (2000, 10)
    assert isinstance(FeaturePipeline(numerical=["x"]).fit_transform(frame[["x"]]), np.ndarray)


def moment_features(times, parts, train=None):
    train = times if train is None else train
    pipeline = FeaturePipeline(temporal={"t": parts}).fit(pd.DataFrame({"t": train}))
    made = pipeline.transform(pd.DataFrame({"t": times}))
    names = pipeline.get_feature_names_out()
    return pd.DataFrame(made, columns=[name.split("__")[1].removeprefix("t_") for name in names])


def test_the_last_minute_of_a_day_is_near_the_first_and_noon_is_opposite():
    times = pd.to_datetime(["2024-02-29 23:59", "2024-03-01 00:00", "2024-03-01 12:00"])
    hour = moment_features(times, ["hour"])
    assert list(hour.columns) == ["hour_sin", "hour_cos"]
    np.testing.assert_allclose((hour**2).sum(axis=1), 1.0)
    gap = np.linalg.norm(hour.loc[0] - hour.loc[1])
    assert gap == pytest.approx(2 * np.sin(np.pi / 1440))
    assert np.linalg.norm(hour.loc[1] - hour.loc[2]) == pytest.approx(2.0)


@pytest.mark.parametrize("part, period, count", [("weekday", "D", 7), ("month", "MS", 12)])
def test_a_turn_has_its_number_of_equal_steps(part, period, count):
    circle = moment_features(pd.date_range("2024-01-01", periods=2 * count, freq=period), [part])
    steps = np.linalg.norm(np.diff(circle, axis=0), axis=1)
    np.testing.assert_allclose(steps, 2 * np.sin(np.pi / count))  # December to January included
    np.testing.assert_allclose(circle.iloc[:count], circle.iloc[count:], atol=1e-12)
    np.testing.assert_allclose(circle.iloc[0], [0.0, 1.0], atol=1e-12)  # a Monday in January


def test_elapsed_time_counts_from_the_first_training_time():
    train = pd.to_datetime(["2024-01-03", "2024-01-01", "2024-01-05"])
    late = pd.to_datetime(["2024-01-09", "2023-12-31"])
    elapsed = moment_features(late, ["elapsed"], train)["elapsed_days"]
    np.testing.assert_allclose(elapsed, (np.array([8, -1]) - 2) / np.std([2, 0, 4]))


def test_a_missing_time_stands_in_the_middle_of_the_circle():
    times = pd.Series(pd.to_datetime(["2024-01-01", None, "2024-01-05"]))
    made = moment_features(times, ["hour", "elapsed"])
    assert made["missingindicator_t_elapsed_days"].tolist() == [0.0, 1.0, 0.0]
    assert made.loc[1, ["hour_sin", "hour_cos"]].tolist() == [0.0, 0.0]


def test_the_hour_is_that_of_the_zone_of_training():
    train = pd.Series(pd.date_range("2024-01-01", periods=9, freq="5h", tz="Asia/Tokyo"))
    same = moment_features(train, ["hour", "elapsed"])
    moved = moment_features(train.dt.tz_convert("America/Lima"), ["hour", "elapsed"], train)
    pd.testing.assert_frame_equal(same, moved)


def test_no_rows_give_no_rows_of_the_same_width():
    frame, y = people(np.random.default_rng(0), 50)
    pipeline = FeaturePipeline(**GROUPS).fit(frame, y)
    for empty in (frame.iloc[:0], pd.DataFrame(columns=frame.columns)):
        made = pipeline.transform(empty)
        assert issparse(made) and made.shape == (0, len(pipeline.get_feature_names_out()))
    numbers = FeaturePipeline(numerical=["balance"]).fit(frame[["balance"]])
    assert numbers.transform(frame[["balance"]].iloc[:0]).shape == (0, 1)


def test_each_feature_has_a_name_of_its_own():
    frame, y = people(np.random.default_rng(0), 50)
    pipeline = FeaturePipeline(**GROUPS)
    features = pipeline.fit_transform(frame, y)
    names = pipeline.get_feature_names_out().tolist()
    assert len(set(names)) == len(names) == features.shape[1]
    wanted = {"standardized__joined_elapsed_days", "onehot__job_pilot", "target__town"}
    assert wanted | {"tfidf_note__cars", "cyclic__joined_month_cos"} <= set(names)
    blue = features[:, names.index("tfidf_note__blue")].toarray()[:, 0] > 0
    np.testing.assert_array_equal(blue, frame["note"].str.contains("blue").fillna(False))
    assert pipeline.get_feature_names_out(pipeline.feature_names_in_).tolist() == names
    with pytest.raises(ValueError, match="input_features"):
        pipeline.get_feature_names_out(["a"])


def test_a_missing_category_has_another_name_than_the_text_nan():
    frame = pd.DataFrame({"c": ["nan", np.nan, "a"]})
    pipeline = FeaturePipeline(categorical=["c"]).fit(frame)
    names = pipeline.get_feature_names_out().tolist()
    assert names == ["onehot__c_a", "onehot__c_nan", "onehot__c_(missing)"]
    np.testing.assert_array_equal(
        pipeline.transform(frame).toarray()[:, 1:], [[1, 0], [0, 1], [0, 0]]
    )


# An estimator of scikit-learn's


API_CHECKS = [
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
]


@pytest.mark.parametrize("name", API_CHECKS)
def test_the_pipeline_passes_scikit_learns_check(name):
    # Those that fit it give an array without names, which it refuses.
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip(f"this scikit-learn has no {name}")
    check("FeaturePipeline", FeaturePipeline(numerical=["a"]))


def test_the_pipeline_is_cloned_pickled_and_set_as_an_estimator():
    frame, y = people(np.random.default_rng(0), 50)
    pipeline = FeaturePipeline(**GROUPS, clip=(0.1, 0.9)).fit(frame, y)
    assert isinstance(pipeline, (BaseEstimator, TransformerMixin))
    copied = clone(pipeline)
    assert copied.get_params() == pipeline.get_params()
    with pytest.raises(NotFittedError):
        copied.transform(frame)
    made = pipeline.transform(frame).toarray()
    np.testing.assert_array_equal(copied.fit(frame, y).transform(frame).toarray(), made)
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.transform(frame).toarray(), made)
    # Parameters set after fit count from the next fit on.
    pipeline.set_params(clip=None, text=(), extra="ignore")
    np.testing.assert_array_equal(pipeline.transform(frame).toarray(), made)
    assert pipeline.fit(frame, y).transform(frame).shape[1] < made.shape[1]


def test_an_index_with_doubles_is_no_obstacle():
    frame, y = people(np.random.default_rng(0), 50)
    made = FeaturePipeline(**GROUPS).fit_transform(frame, y).toarray()
    doubled = frame.set_index(np.zeros(50, dtype=int))
    again = FeaturePipeline(**GROUPS).fit_transform(doubled, y).toarray()
    np.testing.assert_array_equal(again, made)


def test_a_fit_that_fails_leaves_it_unfitted():
    pipeline = FeaturePipeline(numerical=["x"]).fit(pd.DataFrame({"x": [1.0, 2.0]}))
    with pytest.raises(ValueError, match="constant"):
        pipeline.fit(pd.DataFrame({"x": [1.0, 1.0]}))
    with pytest.raises(NotFittedError):
        pipeline.transform(pd.DataFrame({"x": [1.0]}))


def test_the_pipeline_is_fitted_in_each_fold_of_a_cross_validation():
    rng = np.random.default_rng(0)
    frame, _ = people(rng, 200)
    y = (frame["job"] == "nurse").to_numpy() ^ (rng.random(200) < 0.1)
    model = make_pipeline(FeaturePipeline(**GROUPS), LogisticRegression())
    assert cross_val_score(model, frame, y, cv=4).mean() > 0.8
    noise = make_pipeline(
        FeaturePipeline(categorical={"town": "target"}, extra="ignore"), LogisticRegression()
    )
    assert cross_val_score(noise, frame, y, cv=4).mean() < 0.75


def test_dense_features_can_be_a_table():
    from sklearn import config_context

    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]}, index=[7, 8])
    pipeline = FeaturePipeline(numerical=["a", "b"]).set_output(transform="pandas")
    made = pipeline.fit_transform(frame)
    assert list(made.columns) == ["standardized__a", "standardized__b"]
    assert made.index.tolist() == [7, 8]
    with config_context(transform_output="pandas"):
        other = FeaturePipeline(numerical=["a", "b"]).fit(frame).transform(frame)
    pd.testing.assert_frame_equal(made, other)


# What is wrong is said


@pytest.mark.parametrize(
    "parameters, error, match",
    [
        ({}, ValueError, "name at least one"),
        ({"numerical": "x"}, TypeError, "list of columns"),
        ({"numerical": ["x", "x"]}, ValueError, "named twice"),
        ({"numerical": ["x"], "categorical": ["x"]}, ValueError, r"\['x'\] are named twice"),
        ({"numerical": {"x": "log"}}, ValueError, r"numerical\['x'\] must be one of .*signed_log"),
        ({"categorical": {"c": "label"}}, ValueError, "onehot.*got 'label'"),
        ({"text": {"s": "bm25"}}, ValueError, "tfidf"),
        ({"temporal": {"t": ["minute"]}}, ValueError, "each once: got"),
        ({"temporal": {"t": []}}, ValueError, "each once"),
        ({"temporal": ["t"], "numerical": ["t_hour_sin"]}, ValueError, "rename"),
        ({"text": ["a__b"]}, ValueError, "rename"),
        ({"numerical": ["x"], "clip": (0.9, 0.1)}, ValueError, "low < high"),
        ({"numerical": ["x"], "clip": 0.1}, TypeError, "pair"),
        ({"numerical": ["x"], "min_frequency": 1.5}, ValueError, "share"),
        ({"numerical": ["x"], "min_frequency": 0}, ValueError, "at least 1"),
        ({"numerical": ["x"], "max_text_features": 0}, ValueError, "at least 1"),
        ({"numerical": ["x"], "target_folds": 1}, ValueError, "at least 2"),
        ({"numerical": ["x"], "extra": "keep"}, ValueError, "'raise' or 'ignore'"),
        ({"numerical": ["no"]}, ValueError, r"X lacks the columns \['no'\]"),
        ({"numerical": ["x"]}, ValueError, r"\['c', 's', 't'\], which are in no group"),
        ({"numerical": ["c"], "extra": "ignore"}, TypeError, r"'c' \(numerical\) holds string"),
        ({"categorical": ["x"], "extra": "ignore"}, TypeError, r"'x' \(categorical\) holds number"),
        ({"text": ["x"], "extra": "ignore"}, TypeError, r"'x' \(text\) holds number"),
        ({"temporal": ["s"], "extra": "ignore"}, TypeError, r"'s' \(temporal\) holds string"),
        ({"categorical": {"c": "target"}, "extra": "ignore"}, ValueError, "give fit y"),
    ],
)
def test_fit_says_what_is_wrong(parameters, error, match):
    frame = pd.DataFrame({
        "x": [1.5, 2.0], "c": ["a", "b"], "s": ["one day", "two days"],
        "t": pd.to_datetime(["2024-01-01", "2024-01-02"]),
    })  # fmt: skip
    pipeline = FeaturePipeline(**parameters)  # scikit-learn's rule: what is wrong is said by fit
    with pytest.raises(error, match=match):
        pipeline.fit(frame)


@pytest.mark.parametrize(
    "frame, error, match",
    [
        (np.zeros((2, 1)), TypeError, "DataFrame"),
        (pd.DataFrame({"x": []}), ValueError, "no row"),
        (pd.DataFrame({"x": [1.0, np.inf]}), ValueError, "'x' holds infinity"),
        (pd.DataFrame({"x": [1.0, 1.0]}), ValueError, "constant"),
        (pd.DataFrame({"x": [1, "a"]}, dtype=object), TypeError, "mixed"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), ValueError, "same name"),
        (pd.DataFrame([[1, 2]], columns=["x", 0]), TypeError, "must be strings"),
    ],
)
def test_fit_says_what_is_wrong_with_a_table(frame, error, match):
    with pytest.raises(error, match=match):
        FeaturePipeline(numerical=["x"]).fit(frame)


def test_fit_says_that_a_column_holds_no_word_or_no_time_or_that_targets_are_of_other_rows():
    with pytest.raises(ValueError, match="no word"):
        FeaturePipeline(text=["s"]).fit(pd.DataFrame({"s": ["a", None]}))
    with pytest.raises(ValueError, match="no time"):
        FeaturePipeline(temporal=["t"]).fit(pd.DataFrame({"t": pd.to_datetime([None, None])}))
    frame, y = pd.DataFrame({"c": [*"abab"]}), pd.Series([0, 1, 0, 1], index=[3, 2, 1, 0])
    pipeline = FeaturePipeline(categorical={"c": "target"}, target_folds=2)
    with pytest.raises(ValueError, match="other rows"):
        pipeline.fit(frame, y)
    with pytest.raises(ValueError):
        pipeline.fit(frame, [0, 1])
    with pytest.raises(TypeError, match="no other parameters"):
        pipeline.fit_transform(frame, y, weight=1)


@pytest.mark.parametrize(
    "change, error, match",
    [
        (lambda f: f.to_numpy(), TypeError, "DataFrame"),
        (lambda f: f.drop(columns=["age", "job"]), ValueError, r"lacks .* \['age', 'job'\]"),
        (lambda f: f.assign(label=1), ValueError, r"\['label'\], which are in no group"),
        (lambda f: f.assign(age="old"), TypeError, r"'age' \(numerical\) holds string"),
        (lambda f: f.assign(age=np.inf), ValueError, "'age' holds infinity"),
        (lambda f: f.assign(floor="one"), TypeError, "'floor' held integer in training"),
        (lambda f: f.assign(job=3), TypeError, "'job' held string in training and holds integer"),
        (lambda f: f.assign(note=3), TypeError, r"'note' \(text\) holds integer"),
        (lambda f: f.assign(joined="2024"), TypeError, r"'joined' \(temporal\) holds string"),
        (
            lambda f: f.assign(joined=f["joined"].dt.tz_localize("UTC")),
            TypeError,
            "'joined' held datetime in training and holds datetime with a zone",
        ),
    ],
)
def test_transform_names_the_columns_that_are_not_as_in_training(change, error, match):
    frame, y = people(np.random.default_rng(0), 50)
    pipeline = FeaturePipeline(**GROUPS).fit(frame, y)
    with pytest.raises(error, match=match):
        pipeline.transform(change(frame))


# What the listing does


def test_standardised_by_its_own_batch_a_row_alone_is_nan_and_so_is_a_constant_column():
    data, same = pd.Series([40.0]), pd.Series([2.0, 2.0])
    assert ((data - data.mean()) / data.std()).isna().all()  # of one row, n − 1 = 0
    assert ((same - same.mean()) / same.std()).isna().all()  # 0 / 0
    scaler = Standardizer().fit([[30.0], [50.0]])
    assert scaler.transform([[40.0]]).tolist() == [[0.0]]
    assert Standardizer().fit([[2.0], [2.0]]).transform([[2.0]]).tolist() == [[0.0]]


def test_dummies_of_a_batch_are_as_many_as_the_batch_has_categories():
    train, served = pd.Series(["x", "y"]), pd.Series(["y"])
    assert pd.get_dummies(train).shape[1] == 2 and pd.get_dummies(served).shape[1] == 1
    assert OneHot().fit(train).transform(served).tolist() == [[0.0, 1.0]]


def test_a_label_fitted_anew_is_another_number_for_the_same_category():
    train, served = ["x", "y"], ["y"]
    assert LabelEncoder().fit_transform(train).tolist() == [0, 1]
    assert LabelEncoder().fit_transform(served).tolist() == [0]  # which was x
    with pytest.raises(ValueError, match="unseen"):
        LabelEncoder().fit(train).transform(["z"])
    assert OneHot().fit(train).transform(["z"]).tolist() == [[0.0, 0.0]]


def test_hstack_of_columns_makes_one_long_row_or_fails():
    a, b = np.arange(3.0), np.arange(3.0)
    assert np.hstack([a, b]).shape == (6,)
    with pytest.raises(ValueError, match="dimension"):
        np.hstack([a, np.zeros((3, 2))])
    frame = pd.DataFrame({"a": a, "b": b})
    assert FeaturePipeline(numerical=["a", "b"]).fit_transform(frame).shape == (3, 2)


def test_the_log_of_what_is_below_minus_one_is_nan():
    x = pd.DataFrame({"x": [-2.0, 0.0, 2.0]})
    with np.errstate(invalid="ignore"):
        assert np.isnan(np.log1p(x["x"].to_numpy())[0])
    assert np.isfinite(FeaturePipeline(numerical={"x": "signed_log"}).fit_transform(x)).all()


def test_tfidf_fitted_anew_puts_other_words_in_the_columns():
    train, served = ["blue cars", "red boats"], ["old boats"]
    first, again = TfidfVectorizer().fit(train), TfidfVectorizer().fit(served)
    assert first.get_feature_names_out()[0] == "blue"
    assert again.get_feature_names_out()[0] == "boats"
    pipeline = FeaturePipeline(text=["t"]).fit(pd.DataFrame({"t": train}))
    made = pipeline.transform(pd.DataFrame({"t": served})).toarray()
    assert made.tolist() == [[0.0, 1.0, 0.0, 0.0]]  # boats is the second word of training


def test_a_transformation_of_an_unknown_name_drops_the_column():
    def listing(column, transformation):  # its branches, which have no else
        features = {}
        if transformation == "identity":
            features["x"] = column
        elif transformation == "log":
            features["x"] = np.log1p(column)
        return features

    assert listing(np.ones(3), "standardise") == {}
    with pytest.raises(ValueError, match="standardize"):
        FeaturePipeline(numerical={"x": "standardise"}).fit(pd.DataFrame({"x": [1.0]}))


def test_pandas_divides_by_one_less_than_scikit_learn():
    x = np.array([1.0, 2.0, 4.0])
    assert pd.Series(x).std() == pytest.approx(x.std() * np.sqrt(3 / 2))
    assert Standardizer().fit(x[:, None]).scale.item() == pytest.approx(x.std())
