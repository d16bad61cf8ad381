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
    drift = bandits_simulated.drifting((0.3,), (10, 20), 90, 30, range(2), range(1000, 1001))
    assert set(drift["curves"]) == {"changes", "stays"} and drift["window"] in (10, 20)
    late = bandits_simulated.delayed_rewards({"LinUCB": 0.3, "Thompson": 0.3}, 20, range(2))
    assert late["LinUCB"]["delay"]["0"] == late["LinUCB"]["batch"]["0"]


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
