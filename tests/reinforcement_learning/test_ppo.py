"""PPO: advantages, the clipped surrogate, the update, and what it refuses."""

import copy

import numpy as np
import pytest
import torch

from dlcourse.reinforcement_learning import (
    PPO,
    Rollout,
    clipped_surrogate,
    generalized_advantages,
)
from dlcourse.reinforcement_learning.parallel_environments import ppo
from dlcourse.reinforcement_learning.parallel_environments.running import RunningMoments


def random_case(seed, steps=12, envs=3):
    g = torch.Generator().manual_seed(seed)
    rewards, values, next_values = (
        torch.randn(steps, envs, generator=g, dtype=torch.float64) for _ in range(3)
    )
    terminated, truncated = (torch.rand(steps, envs, generator=g) < 0.15 for _ in range(2))
    return rewards, values, next_values, terminated, truncated


def brute_force(rewards, values, next_values, terminated, truncated, gamma, lam):
    """Each advantage as the sum over what follows it, until the episode or the rollout ends."""
    out = torch.zeros_like(rewards)
    for n in range(rewards.shape[1]):
        for t in range(len(rewards)):
            for l in range(len(rewards) - t):  # noqa: E741
                k = t + l
                future = 0.0 if terminated[k, n] else next_values[k, n]
                delta = rewards[k, n] + gamma * future - values[k, n]
                out[t, n] += (gamma * lam) ** l * delta
                if terminated[k, n] or truncated[k, n]:
                    break
    return out


@pytest.mark.parametrize("seed", range(20))
def test_advantages_are_the_sum_of_td_errors(seed):
    case = random_case(seed)
    found = generalized_advantages(*case, 0.97, 0.9)
    torch.testing.assert_close(found, brute_force(*case, 0.97, 0.9), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_advantages_are_those_of_stable_baselines3(seed):
    gymnasium = pytest.importorskip("gymnasium")
    buffers = pytest.importorskip("stable_baselines3.common.buffers")
    rewards, values, _, terminated, truncated = random_case(seed)
    steps, envs = rewards.shape
    next_values = torch.cat([values[1:], torch.randn(1, envs).double()])
    # It adds γ V(reached) to the reward of a truncation, and then ends the episode.
    reached = torch.randn(steps, envs).double()
    next_values = torch.where(truncated, reached, next_values)
    box = gymnasium.spaces.Box(-1, 1, (1,))
    theirs = buffers.RolloutBuffer(steps, box, box, "cpu", 0.9, 0.97, envs)
    start = np.ones(envs)
    for t in range(steps):
        reward = rewards[t] + 0.97 * reached[t] * (truncated[t] & ~terminated[t])
        zero = np.zeros((envs, 1))
        theirs.add(zero, zero, reward.numpy(), start, values[t].float(), torch.zeros(envs))
        start = (terminated[t] | truncated[t]).numpy().astype(float)
    theirs.compute_returns_and_advantage(next_values[-1].float(), start)
    found = generalized_advantages(rewards, values, next_values, terminated, truncated, 0.97, 0.9)
    np.testing.assert_allclose(found.numpy(), theirs.advantages, atol=2e-5)


def test_truncation_bootstraps_and_termination_does_not():
    one, two, no, yes = (torch.full((1, 1), x) for x in (1.0, 2.0, False, True))
    cut = generalized_advantages(one, one, two, no, yes, 0.5, 0.9)
    ended = generalized_advantages(one, one, two, yes, no, 0.5, 0.9)
    both = generalized_advantages(one, one, two, yes, yes, 0.5, 0.9)
    assert (cut.item(), ended.item(), both.item()) == (1.0, 0.0, 0.0)


def test_a_value_after_the_end_is_never_read():
    one, yes = torch.ones(1, 1), torch.tensor([[True]])
    assert generalized_advantages(one, one, one * torch.nan, yes, ~yes, 0.5, 0.9).item() == 0.0


def test_with_lambda_one_the_advantages_are_returns_minus_values():
    rewards, values, next_values, terminated, truncated = random_case(0)
    none = torch.zeros_like(terminated)
    # TD errors telescope only if V(s') is the next V(s).
    next_values = torch.cat([values[1:], next_values[-1:]])
    ours = generalized_advantages(rewards, values, next_values, none, none, 0.9, 1.0)
    returns = next_values[-1]
    for t in reversed(range(len(rewards))):
        returns = rewards[t] + 0.9 * returns
        torch.testing.assert_close(ours[t], returns - values[t])


def surrogate_case(seed, n=40):
    g = torch.Generator().manual_seed(seed)
    logits, old = (torch.randn(n, 3, generator=g, dtype=torch.float64) for _ in range(2))
    actions = torch.randint(3, (n,), generator=g)
    advantages = torch.randn(n, generator=g, dtype=torch.float64)

    def log_prob(x):
        return x.log_softmax(-1).gather(-1, actions[:, None]).squeeze(-1)

    return logits, log_prob, log_prob(old), advantages


@pytest.mark.parametrize("seed", range(5))
def test_the_surrogates_gradient_is_that_of_finite_differences(seed):
    logits, log_prob, old, advantages = surrogate_case(seed)
    x = logits.clone().requires_grad_()
    clipped_surrogate(log_prob(x), old, advantages, 0.2).backward()
    g = torch.Generator().manual_seed(seed)
    for _ in range(5):
        direction = torch.randn(logits.shape, generator=g, dtype=torch.float64)
        ends = [
            clipped_surrogate(log_prob(logits + h * direction), old, advantages, 0.2)
            for h in (1e-6, -1e-6)
        ]
        expected = (ends[0] - ends[1]) / 2e-6
        torch.testing.assert_close((x.grad * direction).sum(), expected, rtol=1e-5, atol=1e-8)


def test_at_the_old_policy_the_gradient_is_the_policy_gradient():
    logits, log_prob, _, advantages = surrogate_case(0)
    x = logits.clone().requires_grad_()
    clipped_surrogate(log_prob(x), log_prob(logits), advantages, 0.2).backward()
    y = logits.clone().requires_grad_()
    (log_prob(y) * advantages).mean().backward()
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False)],
)
def test_only_a_step_gone_too_far_the_good_way_has_no_gradient(ratio, advantage, moves):
    log_prob = torch.tensor([ratio]).log().requires_grad_()
    clipped_surrogate(log_prob, torch.zeros(1), torch.tensor([advantage]), 0.2).backward()
    assert log_prob.grad.item() == pytest.approx(ratio * advantage if moves else 0.0)


def test_moments_merged_in_batches_are_those_of_all_rows():
    rows = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * 5 + 1e4
    moments = RunningMoments(3)
    torch.testing.assert_close(moments(rows[:2]), rows[:2].clamp(-10, 10))  # nothing seen yet
    for part in rows.split([1, 9, 490, 500]):
        moments.add(part)
    torch.testing.assert_close(moments.mean, rows.double().mean(0))
    torch.testing.assert_close(moments.variance, rows.double().var(0, correction=0))


def make(discrete=False, **settings):
    settings = {"hidden": (8,), "epochs": 2, "minibatches": 4, "seed": 3, **settings}
    return PPO(3, 2, discrete=discrete, **settings)


def make_rollout(agent, steps=6, envs=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    observations = torch.randn(steps, envs, 3, generator=g) * 2 + 1
    acted = [agent.act(o) for o in observations]
    actions, log_probs, values = (torch.stack(x) for x in zip(*acted, strict=True))
    ended = torch.rand(2, steps, envs, generator=g) < 0.1
    rewards = torch.randn(steps, envs, generator=g)
    next_values = torch.cat([values[1:], values[:1]])
    return Rollout(
        observations, actions, log_probs, rewards, values, next_values, ended[0], ended[1]
    )


@pytest.mark.parametrize("discrete", [False, True])
def test_the_ratio_starts_at_one_in_every_iteration(discrete):
    agent = make(discrete)
    for i in range(3):
        rollout = make_rollout(agent, seed=i)
        policy = agent.network.policy(rollout.observations)
        torch.testing.assert_close(policy.log_prob(rollout.actions), rollout.log_probs)
        agent.update(rollout)


def test_draws_of_whole_numbers_follow_the_softmax():
    agent = make(discrete=True)
    agent.network.actor[-1].bias.data = torch.tensor([0.0, 1.0])
    agent.network.actor[-1].weight.data.zero_()
    action, log_prob, _ = agent.act(torch.zeros(40_000, 3))
    expected = torch.tensor(1.0).sigmoid()
    assert action.float().mean().item() == pytest.approx(expected.item(), abs=0.01)
    torch.testing.assert_close(log_prob[action == 1][0], expected.log())


def test_real_actions_follow_their_gaussian():
    agent = make(log_std=-0.5)
    agent.network.actor[-1].bias.data = torch.tensor([2.0, -1.0])
    action, log_prob, _ = agent.act(torch.zeros(40_000, 3))
    torch.testing.assert_close(action.mean(0), torch.tensor([2.0, -1.0]), atol=0.03, rtol=0)
    torch.testing.assert_close(action.std(0).log(), torch.tensor([-0.5, -0.5]), atol=0.03, rtol=0)
    normal = torch.distributions.Normal(torch.tensor([2.0, -1.0]), torch.tensor(-0.5).exp())
    torch.testing.assert_close(log_prob, normal.log_prob(action).sum(-1), atol=1e-4, rtol=1e-4)
    still = agent.act(torch.zeros(1, 3), deterministic=True)[0]
    torch.testing.assert_close(still, torch.tensor([[2.0, -1.0]]))


@pytest.mark.parametrize("discrete", [False, True])
def test_one_epoch_in_one_part_is_one_step_of_adam_on_the_written_loss(discrete):
    agent = make(discrete, epochs=1, minibatches=1, entropy_weight=0.1, dtype=torch.float64)
    rollout = make_rollout(agent)
    double = {k: v.double() if v.is_floating_point() else v for k, v in vars(rollout).items()}
    rollout = Rollout(**double)
    twin = copy.deepcopy(agent.network)
    gae = generalized_advantages(
        rollout.rewards, rollout.values, rollout.next_values,
        rollout.terminated, rollout.truncated, 0.99, 0.95,
    )  # fmt: skip
    policy = twin.policy(rollout.observations)
    gain = (policy.log_prob(rollout.actions) * (gae - gae.mean()) / gae.std()).mean()
    error = (twin.value(rollout.observations) - gae - rollout.values).square().mean()
    (-gain + 0.25 * error - 0.1 * policy.entropy().mean()).backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
    torch.optim.Adam(twin.parameters(), 3e-4, eps=1e-5).step()
    agent.update(rollout)
    for ours, expected in zip(agent.network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-7)


def test_a_saved_agent_goes_on_as_if_never_stopped():
    first, second = make(normalize_rewards=True), make(normalize_rewards=True, seed=9)
    first.update(make_rollout(first))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for agent in (first, second):
        agent.told = agent.update(make_rollout(agent, seed=1))
    assert first.told == second.told
    states = (agent.network.state_dict().values() for agent in (first, second))
    for a, b in zip(*states, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    with pytest.raises(ValueError, match="normalize_rewards"):
        make().load_state_dict(first.state_dict())


def test_the_learning_rate_falls_to_zero():
    agent = make(anneal_updates=4, lr=1e-2)
    rates = [agent.update(make_rollout(agent))["lr"] for _ in range(6)]
    assert rates == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3, 0, 0])


def test_scaled_rewards_do_not_depend_on_their_unit():
    losses = []
    for unit in (1.0, 1000.0):
        agent = make(normalize_rewards=True)
        rollout = make_rollout(agent)
        rollout.rewards *= unit
        losses.append(agent.update(rollout)["value_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_bandit_is_solved():
    agent = make(discrete=True, lr=1e-2, epochs=4)
    for i in range(30):
        rollout = make_rollout(agent, steps=1, envs=64, seed=i)
        rollout.rewards = rollout.actions.float()
        rollout.terminated |= True
        agent.update(rollout)
    probs = agent.network.policy(torch.zeros(1, 3)).probs
    assert probs[0, 1] > 0.95


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rewards", torch.nan, "rewards must be finite"),
        ("observations", torch.inf, "observations must be finite"),
        ("actions", torch.nan, "actions must be finite"),
        ("next_values", torch.nan, "next_values must be finite"),
    ],
)
def test_what_is_not_finite_is_refused_and_changes_nothing(name, value, message):
    agent = make(normalize_rewards=True)
    rollout = make_rollout(agent)
    before = copy.deepcopy(agent.state_dict())
    rollout.terminated[0, 0] = False
    getattr(rollout, name)[0, 0] = value
    with pytest.raises(ValueError, match=message):
        agent.update(rollout)
    after = agent.state_dict()
    for a, b in zip(before["network"].values(), after["network"].values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(before["order"], after["order"])
    assert after["reward_moments"]["count"] == 0 and after["updates"] == 0


def as_double(rollout):
    parts = vars(rollout).items()
    return Rollout(**{k: v.double() if v.is_floating_point() else v for k, v in parts})


def assert_unchanged(agent, before):
    """Weights, Adam's moments, running statistics and both generators are those of ``before``."""
    flat = [torch.utils._pytree.tree_leaves(x) for x in (agent.state_dict(), before)]
    assert len(flat[0]) == len(flat[1])
    for a, b in zip(*flat, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rollout_of_another_dtype_is_taken_as_act_takes_it(discrete, dtype):
    # Small whole numbers and halves are the same in both.
    agents = [make(discrete, normalize_rewards=True, dtype=dtype) for _ in range(2)]
    rollout = make_rollout(agents[0])
    rollout = Rollout(**{k: v if v.dtype in (torch.bool, torch.int64) else (2 * v).round() / 2
                         for k, v in vars(rollout).items()})  # fmt: skip
    single = Rollout(**{k: v.float() if v.is_floating_point() else v
                        for k, v in vars(rollout).items()})  # fmt: skip
    told = [a.update(r) for a, r in zip(agents, (single, as_double(rollout)), strict=True)]
    assert told[0] == told[1]
    for a, b in zip(*(agent.network.parameters() for agent in agents), strict=True):
        assert a.dtype == dtype and torch.equal(a, b)


def test_what_is_finite_only_in_float64_is_refused_by_act_and_update():
    agent = make()
    rollout = as_double(make_rollout(agent))
    rollout.observations[0, 0, 0] = 1e300
    before = copy.deepcopy(agent.state_dict())
    with pytest.raises(ValueError, match="observations must be finite"):
        agent.act(rollout.observations[0])
    with pytest.raises(ValueError, match="observations must be finite"):
        agent.update(rollout)
    assert_unchanged(agent, before)


def test_an_infinite_ratio_of_a_good_action_has_no_gradient():
    log_prob = torch.tensor([100.0, 100.0, 0.1], requires_grad=True)
    advantage = torch.tensor([2.0, 0.0, 3.0])
    value = clipped_surrogate(log_prob, torch.zeros(3), advantage, 0.2)
    value.backward()
    e = torch.tensor(0.1).exp().item()
    assert value.item() == pytest.approx((1.2 * 2 + 3 * e) / 3)
    assert log_prob.grad.tolist() == pytest.approx([0, 0, e])


def test_a_rollout_far_from_the_policy_is_learned_where_all_of_it_was_good():
    agent = make(discrete=True, normalize_advantages=False)
    rollout = make_rollout(agent)
    rollout.log_probs -= 100
    rollout.rewards = rollout.rewards.abs() + 10
    rollout.values[:], rollout.next_values[:] = 0, 0
    told = agent.update(rollout)
    assert told["clipped"] == 1 and told["policy_loss"] < 0
    assert all(p.isfinite().all() for p in agent.network.parameters())


def test_a_ratio_that_overflows_is_never_stepped_on():
    agent = make(discrete=True, normalize_rewards=True, anneal_updates=10)
    agent.update(make_rollout(agent))
    rollout = make_rollout(agent, seed=1)
    rollout.log_probs -= 100
    before = copy.deepcopy(agent.state_dict())
    with pytest.raises(FloatingPointError, match="smaller lr, fewer epochs or a target_kl"):
        agent.update(rollout)
    assert_unchanged(agent, before)
    assert agent.update(make_rollout(agent, seed=1))["clipped"] < 1  # and goes on


def test_an_update_that_fails_half_way_leaves_the_agent_as_it_was(monkeypatch):
    agent = make(discrete=True, normalize_rewards=True)
    agent.update(make_rollout(agent))
    rollout = make_rollout(agent, seed=1)
    before = copy.deepcopy(agent.state_dict())
    taken, step = [], agent.optimizer.step

    def overshoot():
        taken.append(all(p.grad.isfinite().all() for p in agent.network.parameters()))
        step()
        if len(taken) == 2:
            agent.network.critic[-1].bias.data.fill_(1e30)  # its square overflows

    monkeypatch.setattr(agent.optimizer, "step", overshoot)
    with pytest.raises(FloatingPointError, match="not finite"):
        agent.update(rollout)
    assert taken == [True, True]  # the third gradient was not stepped on
    assert_unchanged(agent, before)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (0.5, r"whole numbers from 0 to 1, got 0\.5"),
        (-0.5, r"whole numbers from 0 to 1, got -0\.5"),
        (2.0, r"whole numbers from 0 to 1, got 2"),
        (-1.0, r"whole numbers from 0 to 1, got -1"),
        (torch.nan, "actions must be finite"),
        (torch.inf, "actions must be finite"),
    ],
)
def test_a_discrete_action_that_there_is_not_is_refused(action, message):
    agent = make(discrete=True)
    rollout = make_rollout(agent)
    rollout.actions = rollout.actions.double()
    rollout.actions[2, 3] = action
    before = copy.deepcopy(agent.state_dict())
    with pytest.raises(ValueError, match=message):
        agent.update(rollout)
    assert_unchanged(agent, before)


def test_whole_numbers_may_be_of_any_dtype():
    told = []
    for dtype in (torch.int64, torch.int32, torch.uint8, torch.float32):
        agent = make(discrete=True)
        rollout = make_rollout(agent)
        rollout.actions = rollout.actions.to(dtype)
        told.append(agent.update(rollout))
    assert all(t == told[0] for t in told)


@pytest.mark.parametrize(
    ("steps", "minibatches", "sizes"),
    [(5, 4, [3, 2]), (3, 2, [3]), (4, 4, [2, 2]), (7, 3, [3, 2, 2]), (8, 4, [2] * 4), (2, 1, [2])],
)
def test_every_minibatch_is_normalised(monkeypatch, steps, minibatches, sizes):
    seen = []

    def surrogate(log_prob, old_log_prob, advantage, clip):
        seen.append(advantage)
        return clipped_surrogate(log_prob, old_log_prob, advantage, clip)

    monkeypatch.setattr(ppo, "clipped_surrogate", surrogate)
    agent = make(minibatches=minibatches, epochs=1)
    agent.update(make_rollout(agent, steps=steps, envs=1))
    assert [len(a) for a in seen] == sizes
    for a in seen:
        assert a.mean().item() == pytest.approx(0, abs=1e-5)
        assert a.std().item() == pytest.approx(1, abs=1e-4)


def test_raw_advantages_may_stand_alone_and_normalised_ones_may_not():
    raw = make(minibatches=4, normalize_advantages=False)
    raw.update(make_rollout(raw, steps=1, envs=1))
    agent = make(minibatches=4)
    before = copy.deepcopy(agent.state_dict())
    with pytest.raises(ValueError, match="two steps or more"):
        agent.update(make_rollout(agent, steps=1, envs=1))
    assert torch.equal(before["order"], agent.state_dict()["order"])
    assert agent.updates == 0


def test_wrong_shapes_and_settings_are_refused():
    agent = make()
    rollout = make_rollout(agent)
    with pytest.raises(ValueError, match=r"observations must be \(environments, 3\)"):
        agent.act(torch.zeros(5, 4))
    with pytest.raises(TypeError, match="torch tensor"):
        agent.act(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="finite"):
        agent.act(torch.full((5, 3), torch.nan))
    rollout.log_probs = rollout.log_probs[..., None]
    with pytest.raises(ValueError, match="log_probs must be"):
        agent.update(rollout)
    whole = make(discrete=True)
    rollout = make_rollout(whole)
    rollout.actions[0, 0] = 2
    with pytest.raises(ValueError, match="from 0 to 1"):
        whole.update(rollout)
    for wrong in ({"gamma": 1.1}, {"lam": -0.1}, {"clip": 0}, {"lr": 0}, {"epochs": 0},
                  {"hidden": (0,)}, {"target_kl": 0}, {"entropy_weight": -1},
                  {"log_std": torch.nan}, {"log_std": torch.inf}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            make(**wrong)
    case = random_case(0)
    with pytest.raises(TypeError, match="bool"):
        generalized_advantages(*case[:3], case[3].double(), case[4], 0.9, 0.9)
    with pytest.raises(ValueError, match="shape"):
        generalized_advantages(case[0], case[1][:-1], *case[2:], 0.9, 0.9)
    with pytest.raises(ValueError, match="clip"):
        clipped_surrogate(torch.zeros(2), torch.zeros(2), torch.zeros(2), 0)
    with pytest.raises(ValueError, match="one shape"):
        clipped_surrogate(torch.zeros(2, 1), torch.zeros(2), torch.zeros(2), 0.2)
