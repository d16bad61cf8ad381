"""What the recorded cells of section 122.2b measure, at tiny sizes."""

from __future__ import annotations

import numpy as np
import pytest

from dlcourse.reinforcement_learning.experiments import (
    bandits_digits,
    bandits_evaluation,
    bandits_simulated,
)
from dlcourse.reinforcement_learning.experiments.bandits_intervals import (
    mean_over_seeds,
    paired_over_seeds,
)


def test_intervals_of_known_numbers():
    found = mean_over_seeds([1.0, 2.0, 3.0])
    assert found.mean == 2 and found.half == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)
    assert paired_over_seeds([2.0, 4.0, 7.0], [1.0, 3.0, 6.0]) == (1.0, 0.0)
    with pytest.raises(ValueError, match="at least 2"):
        mean_over_seeds([1.0])
    with pytest.raises(ValueError, match="equal lengths"):
        paired_over_seeds([1.0, 2.0], [1.0])


def agent(seed):
    return bandits_simulated.agent_of("LinUCB", 0.3, 10, 5, seed)


def test_a_run_repeats_and_its_regret_never_falls():
    first, again = (bandits_simulated.run(agent, 3, 60) for _ in range(2))
    assert np.array_equal(first, again) and (np.diff(first) >= 0).all()
    assert not np.array_equal(first, bandits_simulated.run(agent, 4, 60))


def test_a_delay_beyond_the_end_teaches_nothing():
    def greedy(seed):
        return bandits_simulated.agent_of("greedy", 0.0, 10, 5, seed)

    late = bandits_simulated.run(greedy, 3, 60, delay=60)
    never = bandits_simulated.run(greedy, 3, 60, batch=61)
    assert np.array_equal(late, never)  # both choose by ties, from the same seed


def test_the_slope_of_a_power_is_its_exponent():
    times = np.geomspace(10, 1000, 20)
    assert bandits_simulated.slope(times, 3 * times**0.4) == pytest.approx(0.4)


def test_curves_and_drift_have_one_list_a_seed():
    found = bandits_simulated.regret_curves(40, range(2), range(1000, 1001))
    assert set(found["curves"]) == {"random", "greedy", *bandits_simulated.GRIDS}
    assert all(np.shape(c) == (2, len(found["times"])) for c in found["curves"].values())
    drift = bandits_simulated.drifting(
        (0.3, 1.0), (0.3,), (10, 20), (5, 9), 90, 30, range(2), range(1000, 1001)
    )
    assert set(drift["curves"]) == {"changes", "stays"}
    assert {len(table) for table in drift["tuned"].values()} == {2}
    assert drift["settings"]["window"][1] in ("10", "20")
    assert set(drift["curves"]["stays"]) == {*drift["curves"]["changes"], "same α"}
    late = bandits_simulated.delayed_rewards({"LinUCB": 0.3, "Thompson": 0.3}, 20, range(2))
    assert late["LinUCB"]["delay"]["0"] == late["LinUCB"]["batch"]["0"]


def test_every_contestant_has_as_many_settings():
    for grids in (bandits_simulated.GRIDS, bandits_simulated.ITEM_GRIDS, bandits_digits.GRIDS):
        assert {len(grid) for grid in grids.values()} == {5}
    pairs = len(bandits_simulated.FORGETTING_ALPHAS)
    assert len(bandits_simulated.ALPHAS) == pairs * len(bandits_simulated.WINDOWS)
    assert len(bandits_simulated.ALPHAS) == pairs * len(bandits_simulated.MEMORIES)


def test_settings_are_chosen_at_the_length_that_is_reported_and_on_other_worlds():
    found = bandits_simulated.regret_curves(30, range(2), range(1000, 1002))
    assert found["tuned"] == bandits_simulated.choose(30, range(1000, 1002))
    assert not set(bandits_simulated.TUNING) & set(bandits_simulated.SEEDS)


def test_an_edge_of_a_grid_is_told():
    assert bandits_simulated.at_an_edge({"0.1": 2.0, "0.3": 1.5, "1.0": 1.0})
    assert not bandits_simulated.at_an_edge({"0.1": 2.0, "0.3": 0.5, "1.0": 1.0})
    grid = {f"{a} {w}": abs(a - 2) + abs(w - 20) for a in (1, 2, 3) for w in (10, 20, 30)}
    assert not bandits_simulated.at_an_edge(grid)
    assert bandits_simulated.at_an_edge({**grid, "2 30": -1.0})


def test_where_all_is_shared_the_hybrid_form_needs_one_parameter_vector():
    def end(kind, share):
        return np.mean([
            bandits_simulated.run_items(kind, 0.3, seed, share, 400)[-1] for seed in range(3)
        ])

    assert end("hybrid", 1.0) < 0.8 * end("LinUCB", 1.0)
    found = bandits_simulated.shared_features(20, range(2), range(1000, 1001), (0.5,))
    assert set(found["regret"]["0.5"]) == set(bandits_simulated.ITEM_GRIDS)
    assert all(len(ends) == 2 for ends in found["regret"]["0.5"].values())


def test_the_digits_for_settings_are_not_those_reported():
    (x0, y0), (x1, y1) = bandits_digits.parts()
    assert len(y0) == 600 and len(y1) == 1197
    assert not {row.tobytes() for row in x0} & {row.tobytes() for row in x1}
    told = bandits_digits.told_all(x1, y1, np.arange(150), 0)
    assert set(told) <= {0.0, 1.0} and told[50:].mean() > 0.5


def test_logs_follow_the_policy_and_ips_its_truth():
    mean, logging, target = bandits_evaluation.policies(0.0)
    assert np.allclose(logging, target) and np.allclose(logging.sum(1), 1)
    x, arm, r = bandits_evaluation.draw_log(np.random.default_rng(0), 20_000, mean, logging)
    truth = (target * mean).sum(1).mean()
    assert abs(r.mean() - truth) < 5 * r.std() / np.sqrt(len(r))
    small = bandits_evaluation.against_the_truth(0.5, 200, replications=60)
    assert abs(small["IPS"]["bias"]) < 5 * small["IPS"]["bias_error"]
    assert 0 <= small["model"]["coverage"] <= 1 and 0 < small["effective"] <= 1


def test_a_row_is_not_predicted_by_a_model_of_itself():
    rng = np.random.default_rng(1)
    mean, logging, target = bandits_evaluation.policies(0.5)
    x, arm, r = bandits_evaluation.draw_log(rng, 100, mean, logging)
    q, v = bandits_evaluation.cross_fitted(x, arm, r, target)
    changed = r.copy()
    changed[0] += 1
    q2, v2 = bandits_evaluation.cross_fitted(x, arm, changed, target)
    assert np.array_equal(q[::2], q2[::2]) and np.array_equal(v[::2], v2[::2])
    assert not np.array_equal(v[1::2], v2[1::2])


def test_only_among_men_do_the_policies_of_open_bandit_differ_beyond_the_interval():
    gaps = {c: bandits_evaluation.own_difference(c) for c in ("all", "men", "women")}
    assert gaps["men"].mean == pytest.approx(0.0069 - 0.0046)
    assert gaps["men"].half == pytest.approx(0.0020957, rel=1e-4)
    assert [abs(gap.mean) > gap.half for gap in gaps.values()] == [False, True, False]


def test_the_propensity_of_the_largest_weight_is_off_the_grid_of_the_others():
    found = bandits_evaluation.propensity_grid("women")
    assert (found["rows"], found["on"], found["equal"]) == (10_000, 9_996, 3)
    assert (found["item"], found["position"], found["others"]) == (19, 1, 9)
    assert found["least"] == 1e-6 and found["second"] == 1.55e-4 and found["same"] == 1.44e-3
