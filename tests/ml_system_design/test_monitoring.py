"""Facts about the drift tests, sketches, logs and alerts of section 123.3."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.signal import lfilter

from dlcourse.ml_system_design import (
    DriftDetector,
    adjust_p_values,
    autocorrelation_time,
    population_stability_index,
)


def ar1(rng, n, phi=0.9):
    """A stationary AR(1) stream of unit innovations: (n,)."""
    return lfilter([1], [1, -phi], rng.standard_normal(n + 200))[200:]


def columns(x):
    return {f"x{j}": x[:, j] for j in range(x.shape[1])}


def at_most(successes, n, p, level=1e-4):
    """Whether so many successes are no surprise where each has at most probability p."""
    return stats.binom.sf(successes - 1, n, p) > level


# Corrections


@pytest.mark.parametrize("seed", range(20))
def test_benjamini_hochberg_is_scipys_false_discovery_control(seed):
    rng = np.random.default_rng(seed)
    p = rng.random(int(rng.integers(1, 60))) ** 3
    np.testing.assert_allclose(adjust_p_values(p), stats.false_discovery_control(p), rtol=1e-12)


def test_corrections_by_hand():
    p = [0.01, 0.04, 0.03, 0.5]
    np.testing.assert_allclose(adjust_p_values(p, "bonferroni"), [0.04, 0.16, 0.12, 1])
    np.testing.assert_allclose(adjust_p_values(p, "bh"), [0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert adjust_p_values(p, None).tolist() == p and adjust_p_values([]).shape == (0,)


@pytest.mark.parametrize(
    "p, correction, message",
    [([0.1, 1.1], "bh", "in .0, 1."), ([0.1], "holm", "must be"), ([np.nan], "bh", "finite")],
)
def test_corrections_refuse(p, correction, message):
    with pytest.raises(ValueError, match=message):
        adjust_p_values(p, correction)


# The tests of one feature


@pytest.mark.parametrize("seed", range(10))
def test_numbers_are_tested_as_scipys_ks_2samp_does(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal(80), rng.standard_normal(int(rng.integers(5, 200))) + 0.2 * seed
    (test,) = DriftDetector({"x": x}, correction=None).compare({"x": y}).tests
    theirs = stats.ks_2samp(x, y)
    assert (test.statistic, test.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert test.effect == test.statistic and test.test == "kolmogorov-smirnov"


@pytest.mark.parametrize("seed", range(10))
def test_categories_are_tested_as_scipys_chi2_contingency_does(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.choice(list("abc"), 90), rng.choice(list("abc"), 120, p=[0.5, 0.3, 0.2])
    (test,) = DriftDetector({"x": x}).compare({"x": y}).tests
    table = np.array([[(values == c).sum() for c in "abc"] for values in (x, y)])
    theirs = stats.chi2_contingency(table, correction=False)
    assert (test.statistic, test.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert test.effect == pytest.approx(stats.contingency.association(table, "cramer"))


def test_missing_values_are_tested_by_their_rate_as_fishers_exact_test_does():
    x, y = np.arange(60.0), np.arange(60.0)
    x[:5], y[::4] = np.nan, np.nan
    distribution, missing = DriftDetector({"x": x}, correction=None).compare({"x": y}).tests
    assert missing.p_value == pytest.approx(stats.fisher_exact([[5, 55], [15, 45]])[1])
    assert missing.statistic == pytest.approx(10 / 60)
    assert distribution.p_value == pytest.approx(stats.ks_2samp(x[5:], y[~np.isnan(y)]).pvalue)


def test_a_column_that_is_missing_altogether_has_drifted():
    x = np.arange(50.0)
    report = DriftDetector({"x": x, "y": x}).compare({"x": [None] * 50, "y": x})
    assert report.drifted == ["x"] and report.share_drifted == 0.5
    assert [test.test for test in report.tests] == ["missing", "kolmogorov-smirnov"]


def test_a_category_that_the_reference_lacks_is_named_and_found():
    rng = np.random.default_rng(0)
    reference = {"browser": rng.choice(["a", "b"], 400)}
    now = rng.choice(["a", "b"], 400).astype(object)
    now[:40] = "new"
    report = DriftDetector(reference).compare({"browser": now})
    assert report.drifted == ["browser"] and report.tests[0].unseen == ("new",)


def test_one_row_of_an_unseen_category_is_named_and_is_no_alarm():
    reference = {"browser": ["a", "b"] * 100}
    report = DriftDetector(reference).compare({"browser": ["a", "b"] * 99 + ["a", "new"]})
    assert report.drifted == [] and report.tests[0].unseen == ("new",)


def test_rare_categories_are_counted_together_so_that_alarms_stay_few():
    # 200 categories in 100 rows: χ² on the whole table is far from its distribution.
    rng = np.random.default_rng(0)
    ids = np.array([f"id{i}" for i in range(200)])
    alarms = 0
    for _ in range(200):
        detector = DriftDetector({"id": rng.choice(ids, 100)})
        alarms += bool(detector.compare({"id": rng.choice(ids, 100)}).drifted)
    assert at_most(alarms, 200, 0.05)


def test_a_constant_feature_has_not_drifted():
    constant = {"x": ["a"] * 9, "y": np.ones(9)}
    report = DriftDetector(constant).compare(constant)
    assert [(test.p_value, test.effect) for test in report.tests] == [(1, 0), (1, 0)]


def test_codes_are_categories_where_one_says_so():
    rng = np.random.default_rng(0)
    x = {"code": rng.integers(0, 3, 100)}
    assert DriftDetector(x).compare(x).tests[0].test == "kolmogorov-smirnov"
    report = DriftDetector(x, categorical=["code"]).compare({"code": x["code"].astype(float)})
    assert report.tests[0].test == "chi-squared" and report.tests[0].unseen == ()


def test_frames_and_dicts_give_one_report_in_any_order_of_columns():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "number": rng.standard_normal(60),
            "string": rng.choice(["a", "b"], 60),
            "category": pd.Categorical(rng.choice(["a", "b"], 60)),
            "flag": rng.random(60) < 0.5,
            "nullable": pd.array([1, None, 2] * 20, dtype="Int64"),
        }
    )
    frame.loc[:5, "string"] = None
    plain = {name: frame[name].tolist() for name in frame}
    reports = [
        DriftDetector(frame).compare(frame[::-1]),
        DriftDetector(plain).compare({name: plain[name] for name in reversed(plain)}),
    ]
    assert reports[0] == reports[1]
    kinds = {test.feature: test.test for test in reports[0].tests if test.test != "missing"}
    assert [kinds[name][0] for name in frame] == ["k", "c", "c", "c", "k"]
    missing = [test.feature for test in reports[0].tests if test.test == "missing"]
    assert missing == ["string", "nullable"]


def test_the_report_is_json_and_says_what_drifted():
    x = {"x": np.arange(100.0), "c": ["a", "b"] * 50}
    report = DriftDetector(x).compare({"x": x["x"] + 90, "c": ["a", "z"] * 50})
    read = json.loads(report.to_json())
    assert read["drifted"] == ["x", "c"] and read["tests"][1]["unseen"] == ["z"]
    assert read["tests"][0]["drifted"] is True and read["num_current"] == 100
    assert read["tests"][0]["effect"] == pytest.approx(0.9)


def test_a_trifle_in_many_rows_is_significant_and_its_effect_is_small():
    rng = np.random.default_rng(0)
    x, y = {"x": rng.standard_normal(200_000)}, {"x": rng.standard_normal(200_000) + 0.02}
    report = DriftDetector(x).compare(y)
    assert report.drifted == ["x"] and report.tests[0].effect < 0.02
    assert DriftDetector(x, min_effect=0.05).compare(y).drifted == []
    assert DriftDetector(x, min_effect=0.05).compare({"x": y["x"] + 0.5}).drifted == ["x"]


@pytest.mark.parametrize(
    "reference, error, message",
    [
        (np.zeros((3, 2)), TypeError, "dict of arrays"),
        ({}, ValueError, "no columns"),
        ({"x": []}, ValueError, "at least 1"),
        ({"x": [1.0], "y": [1.0, 2.0]}, ValueError, "one length"),
        ({"x": np.zeros((2, 2))}, ValueError, "shape"),
        ({"x": np.array(["2024-01-01"], "datetime64[D]")}, TypeError, "into numbers"),
        ({"x": [[1.0], [2.0]]}, TypeError, "numbers or categories"),
        ({"1": [1.0], 1: [1.0]}, ValueError, "one name"),
    ],
)
def test_detectors_refuse_references(reference, error, message):
    with pytest.raises(error, match=message):
        DriftDetector(reference)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"alpha": 0}, ValueError, "alpha"),
        ({"correction": "holm"}, ValueError, "correction"),
        ({"min_effect": -1}, ValueError, "min_effect"),
        ({"block": 0}, ValueError, "block"),
        ({"permutations": 1.5}, TypeError, "permutations"),
        ({"categorical": "x"}, TypeError, "list of names"),
        ({"categorical": ["z"]}, ValueError, "lacks"),
    ],
)
def test_detectors_refuse_options(options, error, message):
    with pytest.raises(error, match=message):
        DriftDetector({"x": [1.0, 2.0]}, **options)


@pytest.mark.parametrize(
    "current, error, message",
    [
        ({"y": [1.0]}, ValueError, "lacks the columns"),
        ({"x": [1.0], "y": [1.0]}, ValueError, "reference lacks"),
        ({"x": ["a"]}, TypeError, "'a', where the reference holds numbers"),
        ({"x": [False]}, TypeError, "False, where"),
        ([1.0], TypeError, "dict of arrays"),
    ],
)
def test_detectors_refuse_windows(current, error, message):
    with pytest.raises(error, match=message):
        DriftDetector({"x": [1.0, 2.0]}).compare(current)


# Error rates


def test_100_features_without_drift_alarm_nearly_always_unless_corrected():
    rng = np.random.default_rng(0)
    alarms = {None: 0, "bonferroni": 0, "bh": 0}
    windows = 40
    for _ in range(windows):
        x, y = (columns(rng.standard_normal((200, 100))) for _ in range(2))
        report = DriftDetector(x, correction=None).compare(y)
        p = [test.p_value for test in report.tests]
        for correction in alarms:
            alarms[correction] += bool((adjust_p_values(p, correction) <= 0.05).any())
    assert alarms[None] >= 37  # 0.99 of 40
    assert at_most(alarms["bonferroni"], windows, 0.05) and at_most(alarms["bh"], windows, 0.05)


def test_benjamini_hochberg_finds_more_than_bonferroni_of_what_drifted():
    rng = np.random.default_rng(0)
    found, false = {}, {}
    for _ in range(10):
        x, y = rng.standard_normal((2, 500, 100))
        y[:, :10] += 0.3
        for correction in ("bh", "bonferroni"):
            drifted = DriftDetector(columns(x), correction=correction).compare(columns(y)).drifted
            hits = sum(int(name[1:]) < 10 for name in drifted)
            found[correction] = found.get(correction, 0) + hits
            false[correction] = false.get(correction, 0) + len(drifted) - hits
    assert found["bh"] > 75 and found["bh"] > found["bonferroni"] + 8  # of 100
    assert false["bh"] <= 12 and false["bonferroni"] <= 4


# Streams


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_the_autocorrelation_time_of_ar1_is_the_formulas(phi):
    rng = np.random.default_rng(0)
    estimates = [autocorrelation_time(ar1(rng, 20_000, phi)) for _ in range(10)]
    assert np.mean(estimates) == pytest.approx((1 + phi) / (1 - phi), rel=0.08)


def test_the_variance_of_a_streams_mean_is_that_of_n_over_tau_rows():
    rng = np.random.default_rng(1)
    streams = np.stack([ar1(rng, 1000) for _ in range(2000)])
    variance = streams.var() / (1000 / autocorrelation_time(ar1(rng, 100_000)))
    assert streams.mean(axis=1).var() == pytest.approx(variance, rel=0.15)


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_the_autocorrelation_time_refuses(values):
    with pytest.raises(ValueError):
        autocorrelation_time(values)


def alarms_under_ar1(rng, windows, shift=0.0, **options):
    drifted = 0
    for _ in range(windows):
        detector = DriftDetector({"x": ar1(rng, 500)}, **options)
        drifted += bool(detector.compare({"x": ar1(rng, 500) + shift}).drifted)
    return drifted


def test_blocks_bring_the_false_alarms_of_a_stream_from_three_quarters_to_near_alpha():
    rng = np.random.default_rng(0)
    assert 60 <= alarms_under_ar1(rng, 100) <= 90
    options = {"block": 50, "permutations": 199}
    assert at_most(alarms_under_ar1(rng, 100, **options), 100, 0.07)
    # 2 standard deviations of the stream: 1 / √(1 − 0.81) = 2.3
    assert alarms_under_ar1(rng, 20, shift=4.6, **options) >= 18


def test_blocks_hold_for_categories_and_missing_values_too():
    rng = np.random.default_rng(0)

    def window():
        x = ar1(rng, 500)
        holes = np.where(ar1(rng, 500) > 2, np.nan, rng.standard_normal(500))
        return {"category": np.where(x > 0, "high", "low"), "holes": holes}

    alarms = {1: 0, 50: 0}
    for _ in range(60):
        reference, now = window(), window()
        for block in alarms:
            detector = DriftDetector(reference, block=block, permutations=199)
            alarms[block] += bool(detector.compare(now).drifted)
    assert alarms[1] >= 30 and at_most(alarms[50], 60, 0.07)


def test_permuting_blocks_of_few_rows_gives_the_p_value_of_the_exact_test():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(200), rng.standard_normal(202) + 0.15
    detector = DriftDetector({"x": x}, block=2, permutations=2000)
    blocked = detector.compare({"x": y}).tests[0]
    exact = stats.ks_2samp(x, y)
    assert blocked.statistic == pytest.approx(exact.statistic)
    assert blocked.p_value == pytest.approx(exact.pvalue, abs=0.06)
    assert blocked == detector.compare({"x": y}).tests[0]  # by its seed


def test_blocks_refuse_what_can_never_raise_an_alarm():
    x = {f"x{j}": np.arange(100.0) for j in range(100)}
    with pytest.raises(ValueError, match="more than 2000 permutations"):
        DriftDetector(x, block=5).compare(x)
    with pytest.raises(ValueError, match="more blocks"):
        DriftDetector({"x": np.arange(8.0)}, block=4).compare({"x": np.arange(8.0)})
    with pytest.raises(ValueError, match="at least 2 blocks"):
        DriftDetector({"x": np.arange(8.0)}, block=5).compare({"x": np.arange(8.0)})


# Population stability index


def test_the_population_stability_index_by_hand():
    reference, now = ["a"] * 50 + ["b"] * 50, ["a"] * 25 + ["b"] * 75
    by_hand = (0.25 - 0.5) * math.log(0.25 / 0.5) + (0.75 - 0.5) * math.log(0.75 / 0.5)
    psi = population_stability_index(reference, now, smoothing=0)
    assert psi == pytest.approx(by_hand)
    x = np.arange(100.0)
    assert population_stability_index(x, x) == 0
    assert population_stability_index(x, x + 1000, smoothing=0) == np.inf
    assert 1 < population_stability_index(x, x + 1000) < np.inf


def test_without_drift_the_population_stability_index_depends_on_the_rows_alone():
    rng = np.random.default_rng(0)
    for n, m in [(10_000, 100), (1000, 1000)]:
        draws = [
            population_stability_index(rng.standard_normal(n), rng.standard_normal(m))
            for _ in range(300)
        ]
        assert np.mean(draws) == pytest.approx(9 * (1 / n + 1 / m), rel=0.12)


@pytest.mark.parametrize(
    "reference, current, options, message",
    [
        ([1.0, np.nan], [1.0], {}, "missing"),
        ([1.0, np.inf], [1.0], {}, "finite"),
        ([1.0, 2.0], [1.0], {"bins": 1}, "bins"),
        ([1.0, 2.0], [1.0], {"smoothing": -1}, "smoothing"),
        ([1.0, 2.0], [], {}, "at least 1"),
    ],
)
def test_the_population_stability_index_refuses(reference, current, options, message):
    with pytest.raises(ValueError, match=message):
        population_stability_index(reference, current, **options)
