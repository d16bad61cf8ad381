"""Facts about the logs of Open Bandit. Their wheel is in the cache after ``make install``."""

import numpy as np
import pytest

from dlcourse.datasets import open_bandit, packages
from dlcourse.datasets.bandit_logs import CAMPAIGNS, NUM_ITEMS, OPEN_BANDIT, POLICIES

CLICKS = {
    ("all", "random"): 38, ("all", "bts"): 42, ("men", "random"): 46,
    ("men", "bts"): 69, ("women", "random"): 46, ("women", "bts"): 46,
}  # fmt: skip


@pytest.fixture(scope="module")
def logs():
    return {(c, p): open_bandit(c, p) for c in CAMPAIGNS for p in POLICIES}


def test_the_wheel_has_the_size_that_is_described():
    assert packages.fetch(OPEN_BANDIT).stat().st_size == OPEN_BANDIT.size


def test_six_logs_have_ten_thousand_rows_and_the_clicks_that_were_counted(logs):
    assert {key: int(log.click.sum()) for key, log in logs.items()} == CLICKS
    for (campaign, _), log in logs.items():
        n = NUM_ITEMS[campaign]
        assert log.num_items == n and log.affinity.shape == (10_000, n)
        assert set(np.unique(log.item)) == set(range(n))
        assert np.unique(log.position).tolist() == [0, 1, 2]
        assert np.unique(log.click).tolist() == [0, 1] and log.user.shape == (10_000, 4)


def test_rows_are_in_the_order_of_time_and_of_one_week(logs):
    for log in logs.values():
        assert (np.diff(log.timestamp) >= np.timedelta64(0)).all()
        assert log.timestamp[0] >= np.datetime64("2019-11-24")
        assert log.timestamp[-1] < np.datetime64("2019-12-01")


def test_the_random_policy_is_uniform_and_thompsons_is_not(logs):
    for (campaign, policy), log in logs.items():
        if policy == "random":
            np.testing.assert_allclose(log.propensity, 1 / NUM_ITEMS[campaign], rtol=1e-4)
        else:
            assert 0 < log.propensity.min() < 1e-3 and 0.1 < log.propensity.max() <= 1


def test_what_a_caller_changes_stays_with_him_and_unknown_logs_are_refused(logs):
    open_bandit("men", "bts").click[:] = 1
    assert open_bandit("men", "bts").click.sum() == 69
    with pytest.raises(ValueError, match="campaign must be one of all, men, women"):
        open_bandit("children")
    with pytest.raises(ValueError, match="policy must be one of random, bts"):
        open_bandit("men", "ucb")
