"""122.2a: simulated users, exact planning, discrete SAC, slates."""

import itertools
import math

import pytest
import torch
from torch import nn

from dlcourse.reinforcement_learning import (
    DiscreteSAC,
    RecommendationEnv,
    Recommender,
    UserModel,
    best_slate,
    critic_target,
    masked_log_policy,
    optimal_values,
    policy_loss,
    slate_value,
    soft_value,
)
from dlcourse.reinforcement_learning.experiments import rl_recommendation_contest as runs


def test_optimum_lies_above_both_fixed_policies_at_sensitivity_a_tenth():
    user = UserModel(sensitivity=0.1)
    found = [optimal_values(user, only=only).start for only in (None, 4, 0)]
    assert found == pytest.approx([1043.5, 818.2, 1000.1], abs=0.1)


def test_at_the_default_sensitivity_always_clickbait_is_optimal():
    user = UserModel()
    best = optimal_values(user).start
    assert optimal_values(user, only=4).start == pytest.approx(best, abs=1e-9)


def test_planning_equals_enumeration_without_innovation():
    user = UserModel(sensitivity=0.1, innovation=0.0, horizon=4)
    totals = []
    for items in itertools.product((0.0, 1.0), repeat=4):
        z, total = torch.zeros((), dtype=torch.float64), 0.0
        for c in items:
            total += float(user.expected_engagement(z, c))
            z = user.next_exposure(z, c)
        totals.append(total)
    assert optimal_values(user, (0.0, 1.0), points=4001).start == pytest.approx(max(totals), 1e-6)


def test_simulated_minutes_agree_with_planning():
    user = UserModel(sensitivity=0.1)
    env = RecommendationEnv(2000, user=user)
    env.reset(0)
    kale = torch.zeros(2000, dtype=torch.long)
    minutes = sum(env.step(kale)[1].mean().item() for _ in range(user.horizon))
    expected = optimal_values(user, only=0).start
    assert minutes == pytest.approx(expected, rel=0.02)
    counted, _ = runs.play(user, lambda t, o, i: torch.zeros(len(o), dtype=torch.long), runs=2)
    assert sum(counted) / 2 == pytest.approx(expected, rel=0.002)


def test_soft_value_equals_enumeration_and_hidden_items_count_nothing():
    allowed = torch.tensor([True, False, True])
    logits = torch.tensor([0.3, 9.0, -0.2], dtype=torch.float64)
    q = torch.tensor([1.0, torch.nan, 3.0], dtype=torch.float64)
    p = torch.softmax(logits[[0, 2]], 0)
    expected = sum(p[k] * (q[a] - 0.5 * p[k].log()) for k, a in enumerate((0, 2)))
    found = soft_value(masked_log_policy(logits, allowed), q, 0.5)
    torch.testing.assert_close(found, expected)


def test_policy_gradient_equals_finite_differences():
    allowed = torch.tensor([[True, False, True, True]])
    q = torch.tensor([[1.0, 5.0, -1.0, 2.0]], dtype=torch.float64)
    logits = torch.tensor([[0.1, 2.0, 0.4, -0.3]], dtype=torch.float64, requires_grad=True)
    loss = lambda x: policy_loss(masked_log_policy(x, allowed), q, 0.3)  # noqa: E731
    assert torch.autograd.gradcheck(loss, logits)


def test_critic_target_on_a_hand_solved_session():
    # Two steps: reward 1, then 2 and the end. With discount .5: V(end) = 0, Q2 = 2, Q1 = 1 + .5 2.
    reward, ends = torch.tensor([1.0, 2.0]), torch.tensor([False, True])
    target = critic_target(reward, ends, torch.tensor([2.0, 99.0]), 0.5)
    assert target.tolist() == [2.0, 2.0] and not target.requires_grad


def test_update_learns_the_hand_solved_session():
    agent = DiscreteSAC(1, 2, temperature=0.0, discount=0.5, tau=0.2, lr=1e-2)
    obs = torch.tensor([[[0.0], [0.0], [1.0], [1.0]]])
    actions, reward = torch.tensor([[0, 1, 0, 1]]), torch.tensor([[1.0, 0.0, 0.0, 2.0]])
    ends, every = torch.tensor([[False, False, True, True]]), torch.ones(1, 4, 2).bool()
    for _ in range(800):
        agent.update(obs, actions, reward, torch.ones(1, 4, 1), ends, every, every)
    q = agent.critics[0](torch.tensor([[[0.0], [1.0]]]))[0]
    torch.testing.assert_close(q, torch.tensor([[2.0, 1.0], [0.0, 2.0]]), atol=0.05, rtol=0)


def test_runs_are_independent():
    agent = DiscreteSAC(2, 3, runs=2)
    agent.actor(torch.randn(2, 4, 2))[0].sum().backward()
    assert agent.actor.w1.grad[1].abs().max() == 0 < agent.actor.w1.grad[0].abs().max()


def test_listing_critic_loss_has_a_gradient_of_exactly_zero():
    torch.manual_seed(0)
    critic, obs, actions = nn.Linear(3, 4), torch.randn(8, 3), torch.randint(4, (8,))
    probs = torch.rand(8, 4).softmax(1)
    # A learning rate or a larger reward can't help: the loss moves with them, its gradient does not.
    for reward in (torch.zeros(8), 100 * torch.randn(8)):
        inputs = (probs, probs, obs, actions, reward, torch.randn(8, 3), torch.zeros(8))
        _, loss = runs.listing_losses(critic, *inputs)
        gradients = torch.autograd.grad(loss, critic.parameters())
        assert loss > 0 and all(bool((g == 0).all()) for g in gradients)


def test_listing_log_of_a_gathered_probability_is_infinite_and_log_softmax_is_not():
    logits = torch.tensor([[0.0, -200.0]])
    inputs = (torch.zeros(1, 3), torch.tensor([1]), torch.ones(1), torch.zeros(1, 3), torch.ones(1))
    critic = nn.Linear(3, 2)
    actor_loss, _ = runs.listing_losses(critic, logits.softmax(1), logits.softmax(1), *inputs)
    assert not actor_loss.isfinite()
    found = masked_log_policy(logits, torch.ones(1, 2, dtype=torch.bool))
    assert found.tolist() == [[0.0, -200.0]]


def test_listing_squeeze_drops_the_batch_axis_of_one_user():
    assert torch.zeros(2, 1).squeeze().shape == (2,) and torch.zeros(1, 1).squeeze().shape == ()
    agent, every = DiscreteSAC(2, 3), torch.ones(1, 1, 3, dtype=torch.bool)
    assert agent.act(torch.zeros(1, 1, 2), every).shape == (1, 1)
    ends = torch.zeros(1, 1, dtype=torch.bool)
    obs, zero = torch.zeros(1, 1, 2), torch.zeros(1, 1, dtype=torch.long)
    losses = agent.update(obs, zero, torch.ones(1, 1), obs, ends, every, every)
    assert all(map(math.isfinite, losses))


def test_listing_without_a_mask_recommends_an_item_again():
    logits = torch.tensor([5.0, 0.0, 0.0])
    allowed = torch.tensor([False, True, True])  # item 0 was shown
    assert logits.softmax(0)[0] > 0.9
    policy = masked_log_policy(logits, allowed).exp()
    assert policy.tolist() == pytest.approx([0.0, 0.5, 0.5])


def test_boredom_lowers_the_log_minutes_of_a_repeated_item_only():
    def minutes(boredom):
        env = RecommendationEnv(3, user=UserModel(boredom=boredom))
        env.reset(0)
        env.step(torch.tensor([0, 1, 2]))
        return env.step(torch.tensor([0, 1, 3]))[1]

    change = (minutes(0.5) / minutes(0.0)).log()
    torch.testing.assert_close(change, torch.tensor([-0.5, -0.5, 0.0], dtype=torch.float64))


def test_each_place_below_the_first_lowers_the_log_minutes_by_the_position_effect():
    def minutes(position):
        env = RecommendationEnv(3, user=UserModel(position=position))
        env.reset(0)
        return env.step(torch.tensor([0, 0, 4]), torch.tensor([0, 1, 3]))[1]

    change = (minutes(0.2) / minutes(0.0)).log()
    torch.testing.assert_close(change, torch.tensor([0.0, -0.2, -0.6], dtype=torch.float64))


def test_drift_is_a_random_walk_of_taste_that_starts_at_zero():
    env = RecommendationEnv(4000, user=UserModel(drift=0.3))
    env.reset(0)
    item = torch.full((4000,), 2)
    for step in (1, 2, 3, 4):
        env.step(item)
        assert env.taste.std().item() == pytest.approx(0.3 * step**0.5, rel=0.05)
    still = RecommendationEnv(4, user=UserModel())
    still.reset(0)
    still.step(torch.zeros(4, dtype=torch.long))
    assert still.taste.tolist() == [0, 0, 0, 0]


def test_taste_moves_clickbait_up_and_kale_down_by_its_size():
    def minutes(taste):
        env = RecommendationEnv(3)
        env.reset(0)
        env.taste += taste
        return env.step(torch.tensor([0, 2, 4]))[1]

    change = (minutes(0.4) / minutes(0.0)).log()
    torch.testing.assert_close(change, torch.tensor([-0.4, 0.0, 0.4], dtype=torch.float64))


def test_slate_decomposition_equals_enumeration_of_clicks():
    scores, values = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 4.0])
    assert float(slate_value(scores, values, 1.0)) == pytest.approx(0.25 * 10 + 0.5 * 4)
    assert best_slate(scores, values, 1, 1.0) == (0,)


@pytest.mark.parametrize(
    ("items", "error"),
    [([0, 5], IndexError), ([0, -1], IndexError), ([0.0, 1.0], TypeError), ([0], ValueError)],
)
def test_refused_items_change_nothing(items, error):
    env = RecommendationEnv(2)
    env.reset(0)
    with pytest.raises(error):
        env.step(torch.tensor(items))
    assert env.time == 0 and env.exposure.tolist() == [0, 0]


def test_an_item_shown_before_is_refused_and_named_in_allowed():
    env = RecommendationEnv(1, user=UserModel(horizon=2), no_repeat=True)
    env.reset(0)
    info = env.step(torch.tensor([3]))[-1]
    assert info["allowed"].tolist() == [[True, True, True, False, True]]
    with pytest.raises(ValueError, match="shown"):
        env.step(torch.tensor([3]))
    assert env.time == 1


def test_nan_and_empty_choices_are_refused_and_nothing_is_learned():
    agent = DiscreteSAC(1, 2)
    before = [p.clone() for p in agent.critics.parameters()]
    obs, every = torch.zeros(1, 1, 1), torch.ones(1, 1, 2).bool()
    rest = (obs, torch.zeros(1, 1).bool(), every)
    zero = torch.zeros(1, 1, dtype=torch.long)
    with pytest.raises(ValueError, match="reward"):
        agent.update(obs, zero, torch.full((1, 1), torch.nan), *rest, every)
    with pytest.raises(ValueError, match="no item"):
        agent.update(obs, zero, torch.ones(1, 1), *rest, ~every)
    assert all(map(torch.equal, before, agent.critics.parameters()))


def test_recommender_shows_each_item_once_and_logs_propensities():
    served = Recommender(DiscreteSAC(2, 3))
    assert {served.recommend("u", [0.0, 1.0]) for _ in range(3)} == {0, 1, 2}
    assert served.log[-1][2] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no item"):
        served.recommend("u", [0.0, 1.0])
    assert len(served.log) == 3


def test_users_with_drift_have_no_one_dimensional_optimum():
    with pytest.raises(ValueError, match="exposure alone"):
        optimal_values(UserModel(drift=0.1))
