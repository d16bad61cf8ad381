"""122.2a: simulated users, exact planning, discrete SAC, slates."""

import itertools
import math

import numpy as np
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
    # A learning rate or a larger reward can't help: the loss moves with them, its gradient doesn't.
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
    expected = 0.25 * 10 + 0.5 * 4 + 0.25 * 8
    assert float(slate_value(scores, values, 1.0, 8.0)) == pytest.approx(expected)
    assert best_slate(scores, values, 1, 1.0, 8.0) == (0,)


def test_no_click_is_worth_what_follows_it():
    scores, values = torch.tensor([5.0, 1.0, 1.0]), torch.tensor([2.0, 6.0, 1.0])
    assert best_slate(scores, values, 2, 1.0, 5.0) == (1, 2)
    assert float(slate_value(scores[1:], values[1:], 1.0, 5.0)) == pytest.approx(4.0)
    assert float(slate_value(scores[1:], values[1:], 1.0, 0.0)) == pytest.approx(7 / 3)


def test_choosing_nothing_can_make_the_less_attractive_item_the_better_slate():
    # v_0 = 1: item 0 is worth (5 2 + V_0) / 6, item 1 is worth (1 + V_0) / 2.
    scores, values = torch.tensor([5.0, 1.0]), torch.tensor([2.0, 1.0])
    assert best_slate(scores, values, 1, 1.0, 0.0) == (0,)
    assert best_slate(scores, values, 1, 1.0, 5.0) == (1,)


@pytest.mark.parametrize(
    ("scores", "values", "none_value"),
    [
        (torch.ones(3), torch.ones(3, 1), 0.0),
        (torch.ones(1, 3), torch.ones(1, 3), 0.0),
        (torch.ones(0), torch.ones(0), 0.0),
        (torch.ones(2), torch.tensor([1.0, torch.nan]), 0.0),
        (torch.ones(2), torch.ones(2), math.inf),
    ],
)
def test_slates_of_other_shapes_or_without_a_value_are_refused(scores, values, none_value):
    with pytest.raises(ValueError, match=r"must be|finite"):
        slate_value(scores, values, 1.0, none_value)


@pytest.mark.parametrize(
    ("reward", "ends", "value"), [((4, 1), (4,), (4,)), ((4,), (1,), (4,)), ((4,), (4,), (4, 4))]
)
def test_a_critic_target_never_broadcasts(reward, ends, value):
    with pytest.raises(ValueError, match="one shape"):
        critic_target(torch.zeros(reward), torch.zeros(ends).bool(), torch.zeros(value), 0.9)


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


def everything_learned(agent):
    """Parameters of actor, critics and targets."""
    return [p for net in (agent.actor, agent.critics, agent.targets) for p in net.parameters()]


BATCH = {
    "obs": torch.zeros(1, 4, 2),
    "actions": torch.zeros(1, 4, dtype=torch.long),
    "reward": torch.ones(1, 4),
    "next_obs": torch.zeros(1, 4, 2),
    "terminated": torch.zeros(1, 4).bool(),
    "next_allowed": torch.ones(1, 4, 3).bool(),
    "allowed": torch.ones(1, 4, 3).bool(),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reward", torch.ones(1, 4, 1)),
        ("reward", torch.ones(4)),
        ("terminated", torch.zeros(1, 1).bool()),
        ("terminated", torch.zeros(1, 4)),
        ("actions", torch.zeros(1, 3, dtype=torch.long)),
        ("actions", torch.zeros(1, 4)),
        ("next_obs", torch.zeros(1, 1, 2)),
        ("allowed", torch.ones(1, 1, 3).bool()),
        ("next_allowed", torch.ones(1, 1, 3).bool()),
    ],
)
def test_an_update_of_another_shape_or_type_is_refused_and_nothing_is_learned(name, value):
    agent = DiscreteSAC(2, 3)
    agent.update(**BATCH)
    before = [p.clone() for p in everything_learned(agent)]
    with pytest.raises(ValueError, match=name):
        agent.update(**{**BATCH, name: value})
    assert all(map(torch.equal, before, everything_learned(agent)))


def test_an_empty_batch_is_refused_and_nothing_is_learned():
    agent = DiscreteSAC(2, 3)
    before = [p.clone() for p in everything_learned(agent)]
    with pytest.raises(ValueError, match="B at least 1"):
        agent.update(**{name: x[:, :0] for name, x in BATCH.items()})
    assert all(map(torch.equal, before, everything_learned(agent)))


def test_recommender_shows_each_item_once_and_logs_propensities():
    served = Recommender(DiscreteSAC(2, 3))
    assert {served.recommend("u", [0.0, 1.0]).item for _ in range(3)} == {0, 1, 2}
    assert served.log[-1].propensity == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no item"):
        served.recommend("u", [0.0, 1.0])
    assert len(served.log) == 3


def test_another_policy_can_be_evaluated_on_the_log_of_the_recommender():
    # Minutes are 10, 20, 30 by item. The other policy is uniform over what is allowed.
    served = Recommender(DiscreteSAC(2, 3, seed=3), seed=1)
    for user in range(1500):
        served.mark_shown(user, user % 3)  # so 15, 20 and 25 are the means of what is left
        served.recommend(user, [1.0, 0.5])
    for event in reversed(range(1500)):  # rewards come late, and in another order
        served.give_reward(event, 10.0 * (1 + served.log[event].item))
    weights = [1 / sum(row.allowed) / row.propensity for row in served.log]
    estimate = sum(w * row.reward for w, row in zip(weights, served.log, strict=True)) / 1500
    assert estimate == pytest.approx(20.0, rel=0.05)
    logged = sum(row.reward for row in served.log) / 1500
    assert abs(logged - 20.0) > 1.0  # without the weights the log tells of its own policy
    assert served.log[7].obs == (1.0, 0.5) and served.log[7].allowed == (True, False, True)


def test_a_reward_joins_one_event_once():
    served = Recommender(DiscreteSAC(2, 3))
    first, second = (served.recommend(user, [0.0, 1.0]) for user in ("Ada", "Emmy"))
    served.give_reward(second.event, 12.5)
    assert [row.reward for row in served.log] == [None, 12.5]
    for event, reward in ((second.event, 1.0), (2, 1.0), (-1, 1.0), (first.event, math.nan)):
        with pytest.raises(ValueError, match=r"event|finite"):
            served.give_reward(event, reward)
    assert [row.reward for row in served.log] == [None, 12.5]


def test_a_numpy_integer_is_an_item_and_a_float_or_bool_is_none():
    served = Recommender(DiscreteSAC(2, 3))
    served.mark_shown("Ada", np.int64(1))
    assert served.shown["Ada"] == {1}
    for item in (0.0, np.float64(2), True):
        with pytest.raises(TypeError):
            served.mark_shown("Ada", item)
    assert served.shown["Ada"] == {1}


def test_users_with_drift_have_no_one_dimensional_optimum():
    with pytest.raises(ValueError, match="exposure alone"):
        optimal_values(UserModel(drift=0.1))
