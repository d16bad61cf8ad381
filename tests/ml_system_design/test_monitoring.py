"""Facts about the drift tests, sketches, logs and alerts of section 123.3."""

import json
import math
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.signal import lfilter
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dlcourse.ml_system_design import (
    ADWIN,
    AlertManager,
    AlertRule,
    DDSketch,
    DriftDetector,
    PredictionLog,
    adjust_p_values,
    autocorrelation_time,
    classifier_two_sample_test,
    maximum_mean_discrepancy,
    population_stability_index,
)
from dlcourse.ml_system_design.monitoring.blocks import BlockPermutation


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


@pytest.mark.parametrize(
    "x, y, merged",
    [
        # c, d and e are expected 5 times only together
        ("a" * 50 + "b" * 40 + "ccddee" + "cde", "a" * 40 + "b" * 50 + "cde" * 3, "cde"),
        # c alone is too rare, and d is the rarest that can join it
        ("a" * 60 + "b" * 39 + "c", "a" * 50 + "b" * 30 + "d" * 20, "cd"),
    ],
)
def test_which_categories_are_counted_together(x, y, merged):
    groups = [merged, *sorted(set(x + y) - set(merged))]
    table = [[sum(values.count(c) for c in group) for group in groups] for values in (x, y)]
    (test,) = DriftDetector({"c": list(x)}).compare({"c": list(y)}).tests
    theirs = stats.chi2_contingency(table, correction=False)
    assert (test.statistic, test.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))


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
        ({"x": 5}, TypeError, "list of n values"),
        ({"x": "abc"}, TypeError, "list of n values"),
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
        ({"alpha": "0.05"}, TypeError, "alpha must be a number"),
        ({"min_effect": -1}, ValueError, "min_effect"),
        ({"min_effect": 2}, ValueError, "as effects are"),
        ({"seed": -1}, ValueError, "seed"),
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


@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_the_permuted_statistics_are_scipys_of_the_permuted_samples(holes):
    rng = np.random.default_rng(0)
    x, y = (rng.integers(0, 4, n).astype(float) for n in (41, 50))  # many are equal
    for values in (x, y):
        values[rng.random(len(values)) < holes] = np.nan
    blocks = BlockPermutation(41, 50, 5, 99, np.random.default_rng(3))
    pooled = np.concatenate([x[1:], y])  # 41 rows are 8 blocks and one too old

    def mine(table, labels):
        halves = (pooled[~labels], pooled[labels])
        u, v = (half[~np.isnan(half)] for half in halves)
        if table:
            counts = [[(half == c).sum() for c in range(4)] for half in (u, v)]
            return stats.chi2_contingency(counts, correction=False).statistic
        return stats.ks_2samp(u, v).statistic

    for table in (False, True):
        options = {"categorical": ["x"] if table else [], "block": 5, "correction": None}
        detector = DriftDetector({"x": x}, permutations=99, seed=3, **options)
        T = np.array([mine(table, labels) for labels in blocks.labels])
        test = detector.compare({"x": y}).tests[0]
        assert test.statistic == pytest.approx(T[0])
        assert test.p_value == (1 + (T[1:] >= T[0] - 1e-9).sum()) / 100


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


def test_a_column_of_many_levels_is_tested_in_groups_and_not_as_one():
    levels = np.array([f"shop {i}" for i in range(200)])
    detector = DriftDetector({"shop": np.repeat(levels, 20)})
    rng = np.random.default_rng(1)

    def p_value(window):
        return detector.compare({"shop": window}).tests[0].p_value

    assert p_value(rng.choice(levels[:60], 200)) < 0.001
    assert p_value(rng.choice(levels[:10], 200)) < 1e-9
    false = [p_value(rng.choice(levels, 200)) < 0.05 for _ in range(100)]
    assert np.mean(false) < 0.12


def test_the_population_stability_index_sees_what_falls_below_a_value_that_many_rows_share():
    zeros = np.zeros(100)
    down, up = (population_stability_index(zeros, zeros + step) for step in (-1, 1))
    assert down == pytest.approx(up) and down > 5
    assert population_stability_index(zeros, zeros) == 0
    spread = np.concatenate([np.zeros(60), np.arange(1, 41)])
    assert population_stability_index(spread, np.full(100, -3.0)) > 5
    assert population_stability_index(spread, spread) == 0


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


# All features at once


def pair(rng, n, rho):
    """Two standard normal features with correlation rho: (n, 2)."""
    z = rng.standard_normal((n, 2))
    return np.stack([z[:, 0], rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]], axis=1)


def test_joint_drift_is_missed_feature_by_feature_and_found_by_a_classifier_and_mmd():
    rng = np.random.default_rng(0)
    x, y = pair(rng, 400, 0.0), pair(rng, 400, 0.8)
    assert DriftDetector(columns(x)).compare(columns(y)).drifted == []
    found = classifier_two_sample_test(x, y, rng=rng)
    assert found.statistic > 0.65 and found.p_value < 0.001
    assert maximum_mean_discrepancy(x, y, rng=rng).p_value <= 0.01
    # A linear classifier sees no more than the means.
    linear = classifier_two_sample_test(x, y, rng=rng, classifier=LogisticRegression())
    assert linear.statistic < 0.6 and linear.p_value > 0.05


@pytest.mark.parametrize("bandwidth", [0.5, 2.0])
def test_mmd_is_equation_3_of_gretton_term_by_term(bandwidth):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 3)), rng.standard_normal((5, 3)) + 1

    def k(a, b):
        return math.exp(-((a - b) ** 2).sum() / (2 * bandwidth**2))

    m, n = len(x), len(y)
    by_hand = (
        sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
        + sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        - 2 * sum(k(a, b) for a in x for b in y) / (m * n)
    )
    ours = maximum_mean_discrepancy(x, y, rng=rng, bandwidth=bandwidth)
    assert ours.statistic == pytest.approx(by_hand, rel=1e-10)


def test_mmd_is_unbiased_and_its_p_value_uniform_without_drift():
    rng = np.random.default_rng(0)
    found = np.array(
        [
            maximum_mean_discrepancy(*rng.standard_normal((2, 30, 2)), rng=rng, permutations=99)
            for _ in range(300)
        ]
    )
    statistics, p = found.T
    assert abs(statistics.mean()) < 4 * statistics.std() / math.sqrt(300)
    assert at_most((p <= 0.05).sum(), 300, 0.05) and stats.kstest(p, "uniform").pvalue > 1e-3
    assert p.min() >= 0.01


def test_mmd_of_a_stream_needs_blocks():
    rng = np.random.default_rng(0)
    alarms = {1: 0, 40: 0}
    for _ in range(60):
        x, y = ar1(rng, 400)[:, None], ar1(rng, 400)[:, None]
        for block in alarms:
            p = maximum_mean_discrepancy(x, y, rng=rng, block=block, permutations=59).p_value
            alarms[block] += p <= 0.05
    assert alarms[1] >= 30 and at_most(alarms[40], 60, 0.08)


def test_mmd_does_not_depend_on_where_the_features_are():
    x, y = np.random.default_rng(0).standard_normal((2, 20, 2))
    near, far = (
        maximum_mean_discrepancy(x + at, y + at, rng=np.random.default_rng(1)) for at in (0, 1e8)
    )
    assert near.statistic == pytest.approx(far.statistic, rel=1e-5)
    assert near.p_value == far.p_value


def test_two_sample_tests_refuse_a_seed_for_a_generator_and_numbers_too_large():
    x = np.random.default_rng(0).standard_normal((10, 2))
    for test in (maximum_mean_discrepancy, classifier_two_sample_test):
        with pytest.raises(TypeError, match="default_rng"):
            test(x, x, rng=0)
    with pytest.raises(ValueError, match="scale the features"):
        maximum_mean_discrepancy(x * 1e200, x, rng=np.random.default_rng(0))


def test_equal_rows_are_no_drift():
    same = np.ones((6, 2))
    found = maximum_mean_discrepancy(same, same, rng=np.random.default_rng(0))
    assert found.statistic == pytest.approx(0, abs=1e-12) and found.p_value == 1


def test_the_classifiers_statistic_is_scikit_learns_auc():
    class First:  # scores rows by their first feature, and so is the same in every fold
        def get_params(self, deep=False):
            return {}

        def fit(self, rows, labels):
            return self

        def decision_function(self, rows):
            return rows[:, 0]

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (30, 1)), rng.integers(1, 6, (30, 1))  # with ties
    many = [
        classifier_two_sample_test(x, y, rng=rng, classifier=First(), folds=2) for _ in range(300)
    ]
    whole = roc_auc_score([0] * 30 + [1] * 30, np.concatenate([x, y])[:, 0])
    assert np.mean([found.statistic for found in many]) == pytest.approx(whole, abs=0.01)


def test_the_classifier_test_raises_few_false_alarms():
    rng = np.random.default_rng(0)
    options = {"rng": rng, "classifier": QuadraticDiscriminantAnalysis()}
    p = [
        classifier_two_sample_test(*rng.standard_normal((2, 60, 2)), **options).p_value
        for _ in range(150)
    ]
    assert at_most(np.sum(np.array(p) <= 0.05), 150, 0.05)
    assert np.mean(p) > 0.7  # twice a mean of p-values, not a mean
    p = [
        classifier_two_sample_test(
            *rng.standard_normal((2, 40, 2)), **options, permutations=19, folds=2
        ).p_value
        for _ in range(50)
    ]
    assert at_most(np.sum(np.array(p) <= 0.05), 50, 0.05) and min(p) >= 0.05


def test_the_classifier_test_of_streams_moves_and_folds_blocks():
    rng = np.random.default_rng(0)
    options = {"rng": rng, "classifier": QuadraticDiscriminantAnalysis(), "folds": 2}

    def streams():
        return np.stack([ar1(rng, 400) for _ in range(5)], axis=1)  # (400, 5)

    plain = blocked = 0
    for _ in range(20):
        x, y = streams(), streams()
        plain += classifier_two_sample_test(x, y, **options).p_value <= 0.05
        found = classifier_two_sample_test(x, y, block=50, permutations=19, **options)
        blocked += found.p_value <= 0.05
    assert plain >= 15 and at_most(blocked, 20, 0.08)
    found = classifier_two_sample_test(
        streams(), streams() + 6, block=50, permutations=39, **options
    )
    assert found.p_value <= 0.05 and found.statistic > 0.9


@pytest.mark.parametrize(
    "x, y, error, message",
    [
        (np.zeros(4), np.zeros((4, 1)), ValueError, "x must have 2 axes"),
        (np.zeros((4, 2)), np.zeros((4, 1)), ValueError, "same features"),
        (np.zeros((1, 2)), np.zeros((4, 2)), ValueError, "2 rows"),
        (np.full((4, 2), np.nan), np.zeros((4, 2)), ValueError, "finite"),
        ([["a"]], np.zeros((4, 1)), TypeError, "real numbers"),
    ],
)
def test_two_sample_tests_refuse_samples(x, y, error, message):
    for test in (maximum_mean_discrepancy, classifier_two_sample_test):
        with pytest.raises(error, match=message):
            test(x, y, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "test, options, message",
    [
        (maximum_mean_discrepancy, {"bandwidth": 0}, "bandwidth"),
        (maximum_mean_discrepancy, {"permutations": 0}, "permutations"),
        (maximum_mean_discrepancy, {"block": 6}, "2 blocks"),
        (classifier_two_sample_test, {"folds": 1}, "folds"),
        (classifier_two_sample_test, {"folds": 11}, "longer window"),
        (classifier_two_sample_test, {"block": 2}, "needs permutations"),
        (classifier_two_sample_test, {"permutations": -1}, "permutations"),
    ],
)
def test_two_sample_tests_refuse_options(test, options, message):
    x = np.random.default_rng(0).standard_normal((10, 2))
    with pytest.raises(ValueError, match=message):
        test(x, x, rng=np.random.default_rng(0), **options)


# The sketch


def sketch_of(values, *options):
    sketch = DDSketch(*options)
    for value in values:
        sketch.add(value)
    return sketch


DRAWS = {
    "lognormal": lambda rng, n: rng.lognormal(-3, 1.5, n),
    "pareto": lambda rng, n: rng.pareto(1, n) + 1e-3,
    "uniform": lambda rng, n: rng.random(n),
    "with zeros": lambda rng, n: np.maximum(rng.standard_normal(n), 0),
    "tiny and huge": lambda rng, n: 10.0 ** rng.uniform(-300, 300, n),
    "powers of gamma": lambda rng, n: (1.01 / 0.99) ** rng.integers(-50, 50, n),
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("seed", range(5))
def test_each_quantile_is_within_the_relative_accuracy(draw, seed):
    rng = np.random.default_rng(seed)
    values = DRAWS[draw](rng, int(rng.integers(1, 3000)))
    accuracy = [0.01, 0.05, 0.001][seed % 3]
    sketch = sketch_of(values, accuracy, 10**6)
    for q in [0, 0.5, 0.9, 0.99, 0.999, 1, *rng.random(10)]:
        exact = np.percentile(values, 100 * q, method="lower")
        assert abs(sketch.quantile(q) - exact) <= accuracy * exact * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_merged_sketches_are_the_sketch_of_the_union(seed):
    rng = np.random.default_rng(seed)
    parts = [np.maximum(rng.lognormal(j, 1, 300) - 0.5, 0) for j in range(4)]
    merged = DDSketch()
    for part in parts:
        merged.merge(sketch_of(part))
    assert vars(merged) == vars(sketch_of(np.concatenate(parts)))


def test_the_p99_of_all_is_not_the_mean_of_the_p99s():
    rng = np.random.default_rng(0)
    fast, slow = rng.exponential(0.01, 9900), rng.exponential(1.0, 100)
    sketches = [sketch_of(fast), sketch_of(slow)]
    mean = (sketches[0].quantile(0.99) + sketches[1].quantile(0.99)) / 2
    sketches[0].merge(sketches[1])
    exact = np.percentile(np.concatenate([fast, slow]), 99)
    assert sketches[0].quantile(0.99) == pytest.approx(exact, rel=0.05)
    assert mean > 10 * exact


def test_a_full_sketch_keeps_its_accuracy_in_the_tail():
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 3, 20_000)
    sketch = sketch_of(values, 0.01, 300)
    assert len(sketch.buckets) == 300 and sum(sketch.buckets.values()) == sketch.count == 20_000
    for q in (0.9, 0.99, 0.999):
        exact = np.percentile(values, 100 * q, method="lower")
        assert sketch.quantile(q) == pytest.approx(exact, rel=0.01)
    other = sketch_of(values * 1e9, 0.01, 300)
    sketch.merge(other)
    assert len(sketch.buckets) == 300 and sum(sketch.buckets.values()) == 40_000


def test_2048_buckets_span_a_factor_of_10_to_the_17():
    assert DDSketch(0.01).gamma ** 2047 > 1e17


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_sketches_refuse_values(value):
    sketch = DDSketch()
    with pytest.raises(ValueError, match="finite and"):
        sketch.add(value)
    assert sketch.count == 0


def test_sketches_refuse_what_has_no_answer():
    with pytest.raises(ValueError, match="nothing"):
        DDSketch().quantile(0.5)
    with pytest.raises(ValueError, match="q must"):
        sketch_of([1.0]).quantile(99)
    with pytest.raises(ValueError, match="one relative_accuracy"):
        DDSketch(0.01).merge(DDSketch(0.02))
    for accuracy in (0, 1e-17, 1):
        with pytest.raises(ValueError, match="relative_accuracy"):
            DDSketch(accuracy)
    with pytest.raises(TypeError, match="value must be a number"):
        DDSketch().add("0.1")


# The log


def test_the_log_keeps_the_newest_and_its_memory_stays():
    log = PredictionLog(100, ["x"])
    for i in range(10_000):
        log.record(i, {"x": i}, i % 2, 0.001 * (1 + i % 50))
    assert len(log) == 100 and log.columns() == {"x": [*range(9900, 10_000)]}
    assert log.predictions(newest=3) == [1, 0, 1] and log.columns(2) == {"x": [9998, 9999]}
    assert log.latency(0.5) == pytest.approx(0.025, rel=0.01)


def test_labels_join_their_prediction_whenever_they_come():
    log = PredictionLog(3, ["x"])
    for i in range(4):
        log.record(f"r{i}", {"x": i}, i, 0.1)
    assert [log.label("r3", 30), log.label("r1", 10), log.label("r0", 0)] == [True, True, False]
    assert log.late_labels == 1 and log.labelled() == ([1, 3], [10, 30])
    assert log.labelled(newest=1) == ([3], [30])

    def mean_error(labels, predictions):
        return float(np.mean(np.abs(np.subtract(labels, predictions))))

    assert log.performance(mean_error) == (18.0, pytest.approx(2 / 3))
    log.label("r3", None)  # None is a label as any other
    assert log.labelled() == ([1, 3], [10, None])
    assert PredictionLog(1, ["x"]).performance(mean_error) == (None, 0.0)


def test_the_logs_columns_are_what_the_detector_compares():
    rng = np.random.default_rng(0)
    detector = DriftDetector({"age": rng.normal(40, 5, 300), "country": ["a", "b"] * 150})
    log = PredictionLog(300, ["age", "country"])
    for i in range(300):
        age = None if i % 5 == 0 else float(rng.normal(40, 5))
        log.record(i, {"country": "ab"[i % 2], "age": age}, 0, 0.1)
    report = detector.compare(log.columns())
    assert [test.feature for test in report.tests if test.drifted] == ["age"]
    assert [test.test for test in report.tests if test.drifted] == ["missing"]


def test_latencies_of_each_interval_merge_to_those_of_all():
    log, whole = PredictionLog(10, ["x"]), DDSketch()
    for i in range(1000):
        log.record(i, {"x": 0}, 0, 0.001 * i)
        if i % 100 == 99:
            whole.merge(log.take_latencies())
    assert vars(whole) == vars(sketch_of(0.001 * i for i in range(1000)))
    with pytest.raises(ValueError, match="nothing"):
        log.latency(0.5)


def test_threads_record_and_label_without_losing_any():
    log = PredictionLog(4000, ["x"])

    def serve(name):
        for i in range(1000):
            log.record((name, i), {"x": i}, i, 0.1)
            log.label((name, i), i)

    threads = [threading.Thread(target=serve, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.take_latencies().count == len(log) == len(log.labelled()[0]) == 4000


@pytest.mark.parametrize(
    "request_id, features, latency, message",
    [
        ("new", {"y": 1}, 0.1, r"lack \['x'\], and have \['y'\]"),
        ("new", {"x": 1}, -0.1, "latency"),
        ("old", {"x": 1}, 0.1, "here already"),
    ],
)
def test_the_log_refuses_and_keeps_nothing_of_it(request_id, features, latency, message):
    log = PredictionLog(5, ["x"])
    log.record("old", {"x": 0}, 0, 0.1)
    with pytest.raises(ValueError, match=message):
        log.record(request_id, features, 1, latency)
    assert log.predictions() == [0] and log.take_latencies().count == 1


def test_logs_refuse_names_and_sizes():
    with pytest.raises(TypeError, match="an id"):
        PredictionLog(1, ["x"]).record([1], {"x": 1}, 0, 0.1)
    for capacity, names in [(0, ["x"]), (1, []), (1, ["x", "x"])]:
        with pytest.raises(ValueError):
            PredictionLog(capacity, names)
    with pytest.raises(TypeError, match="list of names"):
        PredictionLog(1, "xy")
    with pytest.raises(ValueError, match="newest"):
        PredictionLog(1, ["x"]).predictions(0)


def test_prometheus_own_parser_reads_the_logs_metrics():
    from prometheus_client.parser import text_string_to_metric_families

    def parsed(text):
        families = [*text_string_to_metric_families(text)]
        kinds = {family.name: family.type for family in families}
        samples = {(s.name, s.labels.get("quantile")): s.value for f in families for s in f.samples}
        return kinds, samples

    log = PredictionLog(3, ["x"])
    kinds, samples = parsed(log.prometheus())
    assert math.isnan(samples["prediction_latency_seconds", "0.99"])
    for i in range(5):
        log.record(i, {"x": 1.0}, 0, 0.1 * (i + 1))
    log.label(4, 1), log.label(0, 1)
    kinds, samples = parsed(
        log.prometheus({"share_drifted": 0.25, "auc": None, "budget": -math.inf, "n": np.int64(3)})
    )
    assert kinds == {
        "predictions_kept": "gauge",
        "predictions_labelled": "gauge",
        "labels_late": "counter",
        "prediction_latency_seconds": "summary",
        "share_drifted": "gauge",
        "auc": "gauge",
        "budget": "gauge",
        "n": "gauge",
    }
    assert samples["predictions_kept", None] == 3
    assert samples["predictions_labelled", None] == samples["labels_late_total", None] == 1
    assert samples["prediction_latency_seconds_count", None] == 5
    assert samples["prediction_latency_seconds_sum", None] == pytest.approx(1.5)
    assert samples["prediction_latency_seconds", "0.5"] == pytest.approx(0.3, rel=0.01)
    assert samples["share_drifted", None] == 0.25 and samples["n", None] == 3
    assert math.isnan(samples["auc", None]) and samples["budget", None] == -math.inf
    log.take_latencies()  # a counter never goes back
    _, samples = parsed(log.prometheus())
    assert samples["prediction_latency_seconds_count", None] == 5
    assert math.isnan(samples["prediction_latency_seconds", "0.5"])


@pytest.mark.parametrize("name", ["", "1x", "a b", "a\nb", "ä", "predictions_kept", 3])
def test_gauges_that_prometheus_would_not_read_are_refused(name):
    with pytest.raises(ValueError, match="gauge's name"):
        PredictionLog(1, ["x"]).prometheus({name: 1.0})
    with pytest.raises(TypeError, match="must be a number"):
        PredictionLog(1, ["x"]).prometheus({"x": "high"})


# Alerts


class World:
    """A manager of one rule on "m" with a clock that is moved by hand, and what its sink heard."""

    def __init__(self, *more_sinks, **rule):
        self.now, self.heard = 0.0, []
        rule = AlertRule(**{"name": "r", "metric": "m", "raise_at": 10.0} | rule)
        sinks = [self.heard.append, *more_sinks]
        self.manager = AlertManager([rule], sinks, lambda: self.now)

    def see(self, *values, every=1.0):
        """Observe the values, one each ``every`` seconds; returns the states told by now."""
        for value in values:
            self.manager.observe({"m": value})
            self.now += every
        return [alert.state for alert in self.heard]


def test_an_alert_is_told_once_however_long_it_lasts():
    assert World().see(*[11.0] * 1000) == ["raised"]
    assert World().see(*[10.0] * 10) == []  # above means above


def test_noise_around_a_threshold_is_a_storm_without_hysteresis_and_one_alert_with_it():
    rng = np.random.default_rng(0)
    noise = 10 + rng.standard_normal(1000)
    assert len(World().see(*noise)) > 400
    assert World(clear_at=5.0).see(*noise) == ["raised"]
    # one that lasts: short peaks tell nobody
    assert World(for_seconds=20.0).see(*noise) == []


def test_two_bad_values_with_a_gap_between_them_are_bad_all_the_time_only_without_a_max_gap():
    def state_after_a_gap(**rule):
        world = World(for_seconds=60.0, **rule)
        world.see(11.0), setattr(world, "now", 3600.0)  # nobody measured for an hour
        return world, world.see(11.0, every=30.0)

    assert state_after_a_gap()[1] == ["raised"]
    world, heard = state_after_a_gap(max_gap=45.0)
    assert heard == []
    assert world.see(11.0, 11.0, every=30.0) == ["raised"]  # a minute without a gap


def test_a_gap_lets_no_alert_clear_by_itself():
    world = World(clear_for_seconds=60.0, max_gap=45.0)
    world.see(11.0, 9.0)
    world.now = 3600.0
    assert world.see(9.0) == ["raised"]
    world.now = 3630.0
    assert world.see(9.0) == ["raised"]
    world.now = 3660.0
    assert world.see(9.0) == ["raised", "cleared"]


@pytest.mark.parametrize("period", [1, 2, 7])
def test_10_000_steps_of_a_flapping_metric_are_no_storm(period):
    # Bad and good by turns, each for `period` seconds: a storm where one threshold decides at once.
    values = np.where(np.arange(10_000) // period % 2, 12.0, 8.0)
    assert len(World().see(*values)) == 9_999 // period  # at each turn
    assert World(for_seconds=10.0).see(*values) == []
    assert World(clear_for_seconds=10.0).see(*values) == ["raised"]
    assert World(clear_at=7.0).see(*values) == ["raised"]


def test_alerts_of_any_metric_are_no_more_often_than_their_two_durations_allow():
    rng = np.random.default_rng(0)
    values = 10 + 3 * rng.standard_normal(10_000) + np.repeat(rng.choice([-4, 0, 4], 100), 100)
    heard = World(for_seconds=20.0, clear_for_seconds=30.0).see(*values)
    assert 2 <= len(heard) <= 2 * 10_000 / 50 + 1
    assert heard == (["raised", "cleared"] * len(heard))[: len(heard)]


def test_an_alert_needs_its_duration_without_a_break_and_so_does_its_end():
    world = World(for_seconds=3.0, clear_at=8.0, clear_for_seconds=2.0)
    assert world.see(11, 11, 9, 11, 11, 11) == []
    assert world.see(11) == ["raised"]
    assert (world.heard[0].since, world.heard[0].value) == (6.0, 11.0)
    assert world.see(9, 8, 8, 9, 8, 8) == ["raised"]
    assert world.see(8) == ["raised", "cleared"]


def test_the_time_before_an_alert_does_not_count_for_its_end():
    world = World(clear_for_seconds=3.0)
    assert world.see(11, 1, 1, 1) == ["raised"]
    assert world.see(1) == ["raised", "cleared"]


def test_what_should_be_high_is_watched_from_below():
    world = World(raise_at=0.8, clear_at=0.9, when="below")
    assert world.see(0.85, 0.79, 0.85) == ["raised"]
    assert world.see(0.9) == ["raised", "cleared"]


def test_an_unknown_value_neither_clears_nor_ripens():
    world = World(for_seconds=2.0)
    assert world.see(11, math.nan, None, 11, 11) == []
    assert world.see(11, None, math.nan) == ["raised"] and world.manager.is_raised("r")
    world.manager.observe({"another": 1.0})
    assert world.see(1.0) == ["raised", "cleared"]


def test_a_metric_that_stays_away_is_found():
    world = World()
    world.see(1.0, None, None, None)  # at 0, 1, 2 and 3 s
    assert (world.manager.stale(4.0), world.manager.stale(4.1)) == (["r"], [])
    world.see(1.0)
    assert world.manager.stale(4.0) == []


def test_a_raised_alert_is_repeated_when_one_asks_for_it():
    assert World(repeat_after=30.0).see(*[11.0] * 100) == ["raised"] + ["still raised"] * 3


def test_a_silence_hides_what_comes_and_goes_and_tells_what_is_so_at_its_end():
    world = World()
    world.manager.silence("r", 5.0)
    assert world.see(11, 11, 1, 1, 11) == []
    assert world.see(11) == ["raised"]
    world.manager.silence("r", 3.0)
    assert world.see(1, 11, 1) == ["raised"]
    assert world.see(1) == ["raised", "cleared"]
    world.manager.silence("r", 1000.0)
    world.manager.silence("r", 0)
    assert world.see(11) == ["raised", "cleared", "raised"]


def test_a_broken_sink_hears_later_and_the_others_hear_once():
    pager, broken = [], [True]

    def page(alert):
        if broken[0]:
            raise ConnectionError("no network")
        pager.append(alert.state)

    world = World(page)
    assert world.see(11, 11, 11) == ["raised"] and pager == []
    assert len(world.manager.failures) == 3
    broken[0] = False
    assert world.see(11, 11) == ["raised"] and pager == ["raised"]
    assert world.see(*[11.0] * 5, 1) == ["raised", "cleared"] and pager == ["raised", "cleared"]


def test_rules_are_followed_apart():
    heard, rules = [], [AlertRule("a", "m", 1.0), AlertRule("b", "m", 2.0), AlertRule("c", "n", 0)]
    manager = AlertManager(rules, [heard.append], lambda: 0.0)
    told = manager.observe({"m": 1.5, "n": 1.0})
    assert [alert.rule for alert in told] == ["a", "c"] and told == heard


@pytest.mark.parametrize(
    "options, message",
    [
        ({"clear_at": 11.0}, "clear_at must not be above"),
        ({"clear_at": 9.0, "when": "below"}, "clear_at must not be below"),
        ({"when": "over"}, "when"),
        ({"for_seconds": -1}, "for_seconds"),
        ({"max_gap": 0}, "max_gap"),
        ({"clear_for_seconds": math.inf}, "clear_for_seconds"),
        ({"repeat_after": 0}, "repeat_after"),
        ({"raise_at": math.nan}, "finite"),
    ],
)
def test_rules_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        AlertRule(**{"name": "r", "metric": "m", "raise_at": 10.0} | options)


def test_a_value_that_is_no_number_changes_no_rule():
    world = World()
    with pytest.raises(TypeError, match="'n'"):
        world.manager.observe({"m": 11.0, "n": "high"})
    assert world.heard == [] and not world.manager.is_raised("r")


def test_managers_refuse():
    with pytest.raises(TypeError, match="AlertRule"):
        AlertManager(["r"], [print])
    with pytest.raises(TypeError, match="raise_at must be a number"):
        AlertRule("r", "m", "10")
    rule, times = AlertRule("r", "m", 1.0), iter([2.0, 1.0])
    for rules, sinks in [([], [print]), ([rule, rule], [print]), ([rule], []), ([rule], ["x"])]:
        with pytest.raises(ValueError):
            AlertManager(rules, sinks)
    manager = AlertManager([rule], [print], lambda: next(times))
    with pytest.raises(KeyError, match="no rule 'q'"):
        manager.silence("q", 1.0)
    with pytest.raises(ValueError, match="went back"):
        manager.observe({})


# ADWIN


def test_adwin_finds_a_change_soon_and_none_where_there_is_none():
    false, delays = 0, []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        adwin = ADWIN()
        false += sum(adwin.update(float(x)) for x in rng.random(1500) < 0.2)
        assert len(adwin) == 1500 or false
        delays.append(next(i for i, x in enumerate(rng.random(500) < 0.6) if adwin.update(x)))
    assert false == 0 and max(delays) < 100


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("after", [0.1, 0.2, 0.5])
def test_adwin_finds_its_first_change_where_river_does(seed, after):
    from river.drift import ADWIN as River

    def first(detector, stream):
        for t, x in enumerate(stream):
            found = detector.update(float(x))
            if found is True or getattr(detector, "drift_detected", False):
                return t
        return None

    rng = np.random.default_rng(seed)
    stream = np.r_[rng.random(800) < 0.1, rng.random(600) < after]
    ours = first(ADWIN(), stream)
    assert ours == first(River(clock=1, min_window_length=1, grace_period=0), stream)
    # river's defaults look at every 32nd value only, and at windows of at least 5: later, if at all
    theirs = first(River(), stream)
    assert theirs is None or (ours is not None and theirs >= ours and (theirs + 1) % 32 == 0)


def test_adwin_keeps_the_newer_window_at_a_change_where_river_begins_anew():
    from river.drift import ADWIN as River

    rng = np.random.default_rng(1)
    stream = [float(x) for x in np.r_[rng.random(800) < 0.1, rng.random(200) < 0.8]]
    ours, theirs = ADWIN(), River(clock=1, min_window_length=1, grace_period=0)
    for x in stream:
        if ours.update(x):
            theirs.update(x)
            assert theirs.drift_detected and len(ours) == theirs.width > 1
            break
        theirs.update(x)
    else:
        raise AssertionError("no change found")
    kept = len(ours)
    ours.update(1.0), theirs.update(1.0)
    assert theirs.width == 1 and len(ours) in range(2, kept + 2)


def test_adwins_window_holds_what_came_last():
    rng = np.random.default_rng(0)
    adwin = ADWIN(bounds=(-1.0, 3.0))
    values = np.clip(rng.normal(0.5, 0.3, 1000), -1, 3)
    assert math.isnan(adwin.mean) and not any(map(adwin.update, values))
    assert len(adwin) == 1000 and adwin.mean == pytest.approx(values.mean())
    assert adwin._whole().squares == pytest.approx(values.var() * 1000 / 16)
    assert sum(map(len, adwin._rows)) <= 5 * 9
    later = np.clip(rng.normal(2.0, 0.3, 1000), -1, 3)
    assert any([adwin.update(x) for x in later]) and adwin.detections >= 1
    assert adwin.mean == pytest.approx(2.0, abs=0.1) and 900 < len(adwin) < 1100


@pytest.mark.parametrize(
    "options", [{"delta": 0}, {"bounds": (1, 1)}, {"bounds": (0, math.inf)}, {"max_buckets": 1}]
)
def test_adwin_refuses(options):
    with pytest.raises(ValueError):
        ADWIN(**options)
    with pytest.raises(ValueError, match="Clip it"):
        ADWIN().update(math.nan)
    with pytest.raises(TypeError, match="two numbers"):
        ADWIN(bounds=5)


# The document's listing


class ListingMonitoring:
    """The lines of the listing that go wrong, in short."""

    def __init__(self):
        self.metrics = {"prediction_distribution": [], "feature_drift": []}
        self.told = []

    def log_prediction(self, prediction):
        self.metrics["prediction_distribution"].append(prediction)

    def detect_drift(self, reference, current):
        scores = {}
        for j in range(reference.shape[1]):
            _, p = stats.ks_2samp(reference[:, j], current[:, j])
            scores[f"feature_{j}"] = {"p_value": p, "drifted": p < 0.05}
        return scores  # and not stored

    def trigger_alert(self, threshold):
        drift = self.metrics["feature_drift"]
        if sum(v["drifted"] for v in drift.values()) / len(drift) > threshold:
            self.told.append("ALERT")


class TestListing:
    def test_its_alert_fails_on_the_list_that_it_made_and_on_nothing(self):
        listing = ListingMonitoring()
        x = np.random.default_rng(0).standard_normal((50, 2))
        listing.detect_drift(x, x + 9)
        assert listing.metrics["feature_drift"] == []
        with pytest.raises(AttributeError, match="values"):
            listing.trigger_alert(0.1)
        listing.metrics["feature_drift"] = {}
        with pytest.raises(ZeroDivisionError):
            listing.trigger_alert(0.1)

    def test_it_alarms_in_nearly_every_window_of_100_features(self):
        rng = np.random.default_rng(0)
        theirs = ours = 0
        for _ in range(10):
            x, y = rng.standard_normal((2, 100, 100))
            scores = ListingMonitoring().detect_drift(x, y)
            theirs += any(score["drifted"] for score in scores.values())
            ours += bool(DriftDetector(columns(x)).compare(columns(y)).drifted)
        assert theirs >= 9 and at_most(ours, 10, 0.05)

    def test_its_report_is_not_json(self):
        x = np.random.default_rng(0).standard_normal((20, 1))
        with pytest.raises(TypeError, match="bool"):
            json.dumps(ListingMonitoring().detect_drift(x, x))

    def test_what_it_says_of_categories_depends_on_their_names(self):
        # Kolmogorov–Smirnov takes the alphabet for an order.
        x = np.repeat(["a", "b", "c"], [90, 120, 90])
        y = np.repeat(["a", "b", "c"], [120, 60, 120])
        theirs, ours = [], []
        for names in ("abc", "bac"):
            renamed = dict(zip("abc", names, strict=True))
            u, v = (np.array([renamed[value] for value in values]) for values in (x, y))
            theirs.append(ListingMonitoring().detect_drift(u[:, None], v[:, None])["feature_0"])
            ours.append(DriftDetector({"c": u}).compare({"c": v}).tests[0])
        assert [bool(score["drifted"]) for score in theirs] == [False, True]
        assert ours[0].p_value == pytest.approx(ours[1].p_value) and ours[0].p_value < 1e-5

    def test_a_missing_value_leaves_it_without_an_answer_which_counts_as_no_drift(self):
        x = np.random.default_rng(0).standard_normal((100, 1))
        y = x + 9
        y[0] = np.nan
        score = ListingMonitoring().detect_drift(x, y)["feature_0"]
        assert np.isnan(score["p_value"]) and not score["drifted"]
        assert DriftDetector(columns(x)).compare(columns(y)).drifted == ["x0"]

    def test_its_memory_grows_with_every_prediction(self):
        listing, log = ListingMonitoring(), PredictionLog(100, ["x"])
        for i in range(1000):
            listing.log_prediction(0.5)
            log.record(i, {"x": 0}, 0.5, 0.1)
        assert len(listing.metrics["prediction_distribution"]) == 1000 and len(log) == 100
        assert sys.getsizeof(listing.metrics["prediction_distribution"]) > 8000

    def test_it_tells_the_same_alert_at_every_call(self):
        listing, world = ListingMonitoring(), World(raise_at=0.5)
        listing.metrics["feature_drift"] = {"feature_0": {"drifted": True}}
        for _ in range(50):
            listing.trigger_alert(0.5)
        assert len(listing.told) == 50 and world.see(*[1.0] * 50) == ["raised"]
