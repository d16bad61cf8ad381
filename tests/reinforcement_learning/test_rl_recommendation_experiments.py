"""122.2a: what the recorded cells compute, at a small size."""

import pytest
import torch

from dlcourse.reinforcement_learning import UserModel, optimal_values
from dlcourse.reinforcement_learning.experiments import rl_recommendation_contest as runs

SMALL = {"sessions": 2, "users": 8}


@pytest.fixture(scope="module")
def found():
    user = UserModel(sensitivity=0.1, horizon=12)
    return runs.contest(user, runs=2, test_users=400, batch=32, **SMALL)


def test_contest_scores_the_optimum_as_planning_does_and_nobody_beats_it(found):
    scores = {name: sum(row["minutes"]) / 2 for name, row in found["scores"].items()}
    exact = optimal_values(UserModel(sensitivity=0.1, horizon=12)).start
    assert scores["optimum"] == pytest.approx(exact, rel=0.003)
    assert max(scores.values()) <= 1.003 * exact and len(scores) == 12


def test_contest_keeps_a_run_each_and_a_policy_over_exposures(found):
    assert all(len(row["minutes"]) == 2 for row in found["scores"].values())
    assert all(len(row["satisfaction"]) == 12 for row in found["scores"].values())
    assert torch.tensor(found["learned policy"]).shape == (2, len(found["exposures"]))
    assert found["best policy"][-1] == 4 and found["best policy"][0] == 0


def test_a_log_of_random_items_gives_the_mean_minutes_of_each_item():
    user = UserModel(sensitivity=0.0, horizon=4)
    mean, _ = runs.from_a_log(user, runs=2, users=4000, sessions=2)
    expected = user.expected_engagement(torch.zeros(1), torch.linspace(0, 1, 5)).double()
    torch.testing.assert_close(mean, expected.expand(2, 5), rtol=0.06, atol=0)


def test_interval_pairs_over_seeds():
    gap, half = runs.interval([3.0, 5.0, 4.0], [1.0, 3.0, 2.0])
    assert gap == 2.0 and half == 0.0
    # Gaps 1, 3: mean 2, standard deviation sqrt 2, t(1) = 12.706.
    gap, half = runs.interval([1.0, 3.0], [0.0, 0.0])
    assert (gap, half) == (2.0, pytest.approx(12.706, abs=1e-3))


def test_bandit_finds_the_item_with_the_most_minutes_where_nothing_reacts():
    user = UserModel(sensitivity=0.0, innovation=0.0)
    assert runs.bandit(user, runs=2, rate=0.3, users=64, sessions=2).tolist() == [4, 4]


def test_a_saw_that_sees_nothing_is_as_good_as_a_rule_that_sees_the_exposure():
    user = UserModel(sensitivity=0.1)
    rules = runs.rules(user, 4, sessions=1, users=8)
    names = ("optimum", "always kale", "kale, then clickbait", "saw, seeing nothing", "threshold")
    minutes = [sum(runs.play(user, rules[name], 4)[0]) / 4 for name in names]
    assert minutes == pytest.approx([1043.5, 1000.2, 1023.3, 1043.4, 1043.4], abs=0.2)


def test_the_end_is_given_to_clickbait_and_the_rest_left_to_the_policy(found):
    user = UserModel(horizon=8)
    act = runs.end_with_clickbait(user, lambda t, o, i: torch.full((2, 3), 1))
    assert [act(t, None, None).tolist() for t in (0, 4)] == [[1] * 6] * 2
    assert [act(t, None, None).tolist() for t in (5, 7)] == [[4] * 6] * 2
    assert {name: len(row) for name, row in found["given the end"].items()} == {
        "learned, latent": 2,
        "learned, history": 2,
    }
