"""122.2a: simulated users, exact planning, discrete SAC, slates."""

import itertools

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
    minutes, _ = runs.play(user, lambda t, o, i: torch.zeros(len(o), dtype=torch.long))
    assert sum(minutes) / 10 == pytest.approx(optimal_values(user, only=0).start, rel=0.02)


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
