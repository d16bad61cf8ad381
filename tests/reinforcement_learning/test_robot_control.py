"""Facts about section 122.1a: SAC, TD3, their buffer, their targets, and the listing's defects."""

import copy
import io
import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, stats
from torch import nn

from dlcourse.reinforcement_learning import (
    SAC,
    TD3,
    Batch,
    Critics,
    ReplayBuffer,
    evaluate,
    interquartile_mean,
    q_against_return,
    squashed_density,
    squashed_log_prob,
    squashed_sample,
    stratified_bootstrap,
    td_target,
    to_bounds,
    train,
)
from dlcourse.reinforcement_learning.robot_control.networks import polyak
from dlcourse.reinforcement_learning.robot_control.targets import soft_value

torch.set_num_threads(1)


def batch_of(b=16, obs_dim=3, action_dim=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(b, obs_dim, generator=g), torch.rand(b, action_dim, generator=g) * 2 - 1,
        torch.randn(b, generator=g), torch.randn(b, obs_dim, generator=g),
        (torch.rand(b, generator=g) < 0.3).float(), (torch.rand(b, generator=g) < 0.3).float(),
    )  # fmt: skip


def weights(agent):
    return torch.cat([p.detach().flatten().double() for p in agent.parameters()])


# The squashed Gaussian


@pytest.mark.parametrize("mean, log_std", [(0.0, 0.0), (1.5, -1.0), (-0.7, 0.5), (2.0, -2.0)])
def test_squashed_density_integrates_to_one(mean, log_std):
    m, s = torch.tensor([mean]).double(), torch.tensor([log_std]).double()

    def density(a):
        return squashed_density(torch.tensor([a], dtype=torch.float64), m, s).item()

    peak = math.tanh(mean)
    total, _ = integrate.quad(density, -1 + 1e-12, 1 - 1e-12, points=[peak], limit=400)
    assert total == pytest.approx(1, abs=1e-5)


def test_squashed_density_is_that_of_the_transformed_variable():
    # P(tanh(u) ≤ a) = Φ((atanh a − μ)/σ): its slope is the density.
    m, s = torch.tensor([0.4]).double(), torch.tensor([-0.3]).double()
    for a in np.linspace(-0.95, 0.95, 21):
        def cdf(x):
            return stats.norm.cdf(math.atanh(x), 0.4, math.exp(-0.3))

        slope = (cdf(a + 1e-6) - cdf(a - 1e-6)) / 2e-6
        found = squashed_density(torch.tensor([a], dtype=torch.float64), m, s).item()
        assert found == pytest.approx(slope, rel=1e-6)


def test_log_prob_is_that_of_torch_distributions():
    g = torch.Generator().manual_seed(0)
    mean, log_std, noise = (torch.randn(50, 3, generator=g).double() for _ in range(3))
    action, found = squashed_sample(mean, log_std, noise)
    normal = torch.distributions.Normal(mean, log_std.exp())
    peer = torch.distributions.TransformedDistribution(
        normal, torch.distributions.TanhTransform()
    )
    assert torch.allclose(found, peer.log_prob(action).sum(1), atol=1e-7)


def test_log_prob_stays_finite_with_its_gradient_where_tanh_is_one():
    mean = torch.tensor([[30.0, -30.0]], requires_grad=True)
    action, log_prob = squashed_sample(mean, torch.zeros(1, 2), torch.zeros(1, 2))
    log_prob.sum().backward()
    assert action.abs().min() == 1 and log_prob.isfinite().all() and mean.grad.isfinite().all()


# Targets


def test_critic_target_of_a_small_mdp_solved_by_hand():
    # A → B (reward 1), B → end (reward 2), γ = 0.5: V(B) = 2, V(A) = 1 + 0.5 · 2 = 2.
    reward, terminated = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])
    value = torch.zeros(2)  # of A and B; what follows the end has a wrong value on purpose
    for _ in range(5):
        value = td_target(reward, terminated, torch.stack([value[1], torch.tensor(99.0)]), 0.5)
    assert value.tolist() == [2.0, 2.0]


def test_critics_learn_the_values_of_that_mdp():
    agent = TD3(2, 1, hidden=(16,), gamma=0.5, tau=0.1, lr=1e-2)
    buffer = ReplayBuffer(100, 2, 1)
    rng = np.random.default_rng(0)
    for _ in range(50):
        a = rng.uniform(-1, 1, 2)
        buffer.add([1, 0], a[:1], 1.0, [0, 1], False, False)
        buffer.add([0, 1], a[1:], 2.0, [0, 0], True, False)
    for _ in range(600):
        agent.update(buffer.sample(64))
    q = agent.critics(torch.eye(2), torch.zeros(2, 1))
    assert torch.allclose(q, torch.full((2, 2), 2.0), atol=0.1)


@pytest.mark.parametrize("kind", [SAC, TD3])
def test_truncation_bootstraps_and_termination_does_not(kind):
    agent, batch = kind(3, 2, hidden=(8,)), batch_of()
    noise = torch.zeros(16, 2)
    zero, one = torch.zeros(16), torch.ones(16)
    going_on = agent.target(batch._replace(terminated=zero, truncated=zero), noise)
    time_up = agent.target(batch._replace(terminated=zero, truncated=one), noise)
    over = agent.target(batch._replace(terminated=one, truncated=zero), noise)
    assert torch.equal(time_up, going_on)
    assert torch.equal(over, batch.reward)
    assert (going_on - over).abs().min() > 0


def test_soft_value_takes_the_least_critic_and_counts_the_log_probability():
    q = torch.tensor([[1.0, 5.0], [3.0, 2.0]])
    assert soft_value(q, torch.tensor([-1.0, 2.0]), 0.5).tolist() == [1.5, 1.0]


def test_what_a_network_says_past_an_end_does_not_count():
    reward, over = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0])
    assert td_target(reward, over, torch.tensor([torch.nan, 4.0]), 0.5).tolist() == [1, 4]


@pytest.mark.parametrize("name, value", [("init_temperature", math.nan), ("target_entropy", math.nan),
                                         ("init_temperature", math.inf)])  # fmt: skip
def test_sac_refuses_a_temperature_or_an_entropy_that_is_not_finite(name, value):
    with pytest.raises(ValueError, match=name):
        SAC(1, 1, hidden=(4,), **{name: value})


def test_td_target_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match="one shape"):
        td_target(torch.zeros(4), torch.zeros(4), torch.zeros(4, 1), 0.9)


def test_sac_target_by_hand_with_torch_distributions():
    agent, batch = SAC(3, 2, hidden=(8,)), batch_of()
    noise = torch.randn(16, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mean, log_std = agent.policy(batch.next_obs)
        u = mean + log_std.exp() * noise
        log_prob = torch.distributions.Normal(mean, log_std.exp()).log_prob(u).sum(1)
        log_prob = log_prob - (1 - u.tanh() ** 2).log().sum(1)
        expected = []
        for i in range(16):
            q = agent.target_critics.readable(batch.next_obs[i : i + 1], u[i : i + 1].tanh())
            soft = q.min().item() - agent.log_alpha.exp().item() * log_prob[i].item()
            expected.append(batch.reward[i].item() + 0.99 * (1 - batch.terminated[i]) * soft)
    assert torch.allclose(agent.target(batch, noise), torch.tensor(expected), atol=1e-5)


# Gradients and the fast form


@pytest.mark.parametrize("kind", [SAC, TD3])
def test_policy_gradient_is_that_of_finite_differences(kind):
    agent, batch = kind(3, 2, hidden=(8, 8)).double(), batch_of()
    obs, noise = batch.obs.double(), torch.randn(16, 2).double()

    def loss():
        return agent.actor_loss(obs, noise)[0] if kind is SAC else agent.actor_loss(obs)

    flat = agent.actor.flat
    (found,) = torch.autograd.grad(loss(), flat)
    assert found.abs().max() > 1e-4
    with torch.no_grad():
        for k in range(0, len(flat), 7):
            old, values = flat[k].item(), []
            for change in (1e-5, -1e-5):
                flat[k] = old + change
                values.append(loss().item())
            flat[k] = old
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(found[k].item(), abs=1e-7)


def test_temperature_falls_where_there_is_too_much_entropy_and_rises_where_too_little():
    for target, sign in ((-50.0, -1), (50.0, 1)):
        agent = SAC(3, 2, hidden=(8,), target_entropy=target)
        before = agent.log_alpha.item()
        agent.update(batch_of())
        assert (agent.log_alpha.item() - before) * sign > 0


def test_batched_critics_equal_the_loop_with_all_gradients():
    for seed in range(30):
        g = torch.Generator().manual_seed(seed)
        b, o, a, n, h = (int(torch.randint(1, 7, (1,), generator=g)) for _ in range(5))
        net = Critics(o, a, (h, h + 1)[: seed % 3], n, g).double()
        obs = torch.randn(b, o, generator=g).double().requires_grad_()
        action = torch.randn(b, a, generator=g).double().requires_grad_()
        pull = torch.randn(n, b, generator=g).double()
        results = []
        for form in (net, net.readable, net.frozen):
            q = form(obs, action)
            wanted = (obs, action) if form == net.frozen else (obs, action, net.flat)
            results.append([q, *torch.autograd.grad((q * pull).sum(), wanted)])
        for fast, slow in zip(results[0], results[1], strict=True):
            assert torch.allclose(fast, slow, atol=1e-12)
        for fast, slow in zip(results[2], results[1][:3], strict=True):
            assert torch.allclose(fast, slow, atol=1e-12)
    assert torch.autograd.gradcheck(net, (obs, action))


def test_a_batched_update_equals_one_in_a_loop():
    agent = TD3(3, 2, hidden=(8, 8), policy_delay=100)
    slow = [nn.Parameter(p.detach().clone()) for p in agent.critics.parts(agent.critics.flat)]
    optimizer = torch.optim.Adam(slow, 3e-4)
    for seed in range(20):
        batch = batch_of(seed=seed)
        state = agent.generator.get_state()
        y = agent.target(batch, agent.noise(16, 2))
        agent.generator.set_state(state)
        x, loss = torch.cat([batch.obs, batch.action], 1), 0.0
        for i in range(2):
            h = x
            for k in range(0, 6, 2):
                h = h @ slow[k][i] + slow[k + 1][i, 0]
                h = F.relu(h) if k < 4 else h
            loss = loss + F.mse_loss(h.squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        agent.update(batch)
    found = agent.critics.parts(agent.critics.flat)
    for fast, wanted in zip(found, slow, strict=True):
        assert torch.allclose(fast, wanted, atol=2e-6)


def test_target_weights_move_a_part_of_the_way():
    agent = SAC(3, 2, hidden=(8,))
    with torch.no_grad():
        agent.critics.flat.fill_(2.0)
        agent.target_critics.flat.fill_(1.0)
    polyak(agent.target_critics, agent.critics, 0.25)
    assert agent.target_critics.flat.unique().tolist() == [1.25]


def test_td3_moves_its_actor_each_second_time_only():
    agent, batch = TD3(3, 2, hidden=(8,)), batch_of()
    start = agent.actor.flat.detach().clone()
    assert "actor" not in agent.update(batch) and torch.equal(agent.actor.flat, start)
    assert "actor" in agent.update(batch) and not torch.equal(agent.actor.flat, start)


def test_td3_smooths_its_target_with_clipped_noise_inside_the_bounds():
    agent, batch = TD3(3, 2, hidden=(8,)), batch_of()
    far, clipped = torch.full((16, 2), 1e6), torch.full((16, 2), 0.5 / 0.2)
    assert torch.equal(agent.target(batch, far), agent.target(batch, clipped))
    assert not torch.equal(agent.target(batch, far), agent.target(batch, 0 * far))


@pytest.mark.parametrize("kind", [SAC, TD3])
def test_the_same_seed_gives_the_same_agent_and_a_state_dict_restores_it(kind):
    agents = [kind(3, 2, hidden=(8,), seed=s) for s in (1, 1, 2)]
    for agent in agents:
        for seed in range(4):
            agent.update(batch_of(seed=seed))
    assert torch.equal(weights(agents[0]), weights(agents[1]))
    assert not torch.equal(weights(agents[0]), weights(agents[2]))
    agents[2].load_state_dict(agents[0].state_dict())
    obs = np.ones(3)
    assert np.array_equal(agents[2].act(obs, True), agents[0].act(obs, True))


@pytest.mark.parametrize("kind", [SAC, TD3])
def test_a_copy_and_a_saved_agent_go_on_as_the_agent_itself_does(kind):
    agent = kind(3, 2, hidden=(8,))
    for seed in range(3):
        agent.update(batch_of(seed=seed))
    file = io.BytesIO()
    torch.save(agent, file)
    file.seek(0)
    others = [copy.deepcopy(agent), torch.load(file, weights_only=False)]
    for one in (agent, *others):
        for seed in range(3, 6):
            one.update(batch_of(seed=seed))
    assert all(torch.equal(weights(one), weights(agent)) for one in others)


@pytest.mark.parametrize("kind", [SAC, TD3])
def test_an_agent_loaded_from_a_state_dict_goes_on_as_the_first_does(kind):
    first, second = (kind(3, 2, hidden=(8,), seed=s) for s in (0, 1))
    for seed in range(3):  # an odd number: TD3's actor is due with the next
        first.update(batch_of(seed=seed))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    third = kind(3, 2, hidden=(8,), seed=2)
    third.load_state_dict(first.state_dict())  # in memory: must not share what Adam remembers
    for seed in range(3, 7):
        for agent in (first, second, third):
            agent.update(batch_of(seed=seed))
    action = first.act(np.ones(3))  # with noise: from the generator
    for agent in (second, third):
        assert torch.equal(weights(agent), weights(first)) and agent.updates == 7
        assert np.array_equal(agent.act(np.ones(3)), action)


def test_a_state_dict_without_optimizers_or_of_another_kind_is_refused():
    agent = TD3(3, 2, hidden=(8,))
    agent.update(batch_of())
    state = agent.state_dict()
    bare = {name: part for name, part in state.items() if name != "_extra_state"}
    other = TD3(3, 2, hidden=(8,), seed=1)
    before = weights(other)
    with pytest.raises(ValueError, match="no optimizers"):
        other.load_state_dict(bare)
    assert torch.equal(weights(other), before)
    other.load_state_dict(bare, strict=False)
    assert torch.equal(weights(other), weights(agent)) and other.updates == 0
    wrong, kept = (SAC(3, 2, hidden=(8,)) for _ in range(2))
    with pytest.raises(ValueError, match="another kind: TD3, not SAC"):
        wrong.load_state_dict(state)
    assert torch.equal(weights(wrong), weights(kept))


def test_sac_acts_inside_the_bounds_and_without_noise_where_asked():
    agent = SAC(3, 2, hidden=(8,))
    many = agent.act(np.random.default_rng(0).normal(size=(200, 3)) * 5)
    assert many.shape == (200, 2) and np.abs(many).max() <= 1
    one = np.ones(3)
    assert np.array_equal(agent.act(one, True), agent.act(one, True))
    assert not np.array_equal(agent.act(one), agent.act(one))


# Bad input: an error, and nothing has changed


@pytest.mark.parametrize("kind", [SAC, TD3])
@pytest.mark.parametrize(
    "part, value, message",
    [
        ("reward", torch.full((16,), torch.nan), "finite"),
        ("next_obs", torch.full((16, 3), torch.inf), "finite"),
        ("action", torch.full((16, 2), 1.5), "outside"),
        ("action", torch.full((16, 2), torch.nan), "NaN"),
        ("terminated", torch.full((16,), torch.nan), "terminated"),
        ("terminated", torch.full((16,), 2.0), "0 or 1"),
        ("truncated", torch.full((16,), 0.5), "0 or 1"),
        ("truncated", torch.full((16,), torch.nan), "0 or 1"),
        ("reward", torch.zeros(16, 1), "reward must be"),
        ("obs", torch.zeros(16, 4), "obs must be"),
    ],
)
def test_a_bad_batch_changes_nothing(kind, part, value, message):
    agent, batch = kind(3, 2, hidden=(8,)), batch_of()
    before, state = weights(agent), agent.generator.get_state()
    with pytest.raises(ValueError, match=message):
        agent.update(batch._replace(**{part: value}))
    assert torch.equal(weights(agent), before)
    assert torch.equal(agent.generator.get_state(), state) and agent.updates == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"action": [1.5, 0]}, "outside"),
        ({"reward": math.nan}, "reward is not finite"),
        ({"obs": [0, 0]}, "obs must be"),
        ({"next_obs": [0, 0, math.inf]}, "next_obs is not finite"),
        ({"terminated": 2}, "true or false"),
        ({"reward": [1.0, 2.0]}, "rows"),
    ],
)
def test_the_buffer_refuses_a_bad_transition_and_keeps_what_it_has(change, message):
    buffer = ReplayBuffer(4, 3, 2)
    good = dict(obs=[1, 2, 3], action=[0, 1], reward=1, next_obs=[4, 5, 6], terminated=False,
                truncated=True)  # fmt: skip
    buffer.add(**good)
    kept = buffer._rows.clone()
    with pytest.raises(ValueError, match=message):
        buffer.add(**{**good, **change})
    assert len(buffer) == 1 and torch.equal(buffer._rows, kept)
    batch = buffer.sample(2)
    assert batch.truncated.tolist() == [1, 1] and batch.terminated.tolist() == [0, 0]
    assert batch.reward.shape == (2,) and batch.next_obs[0].tolist() == [4, 5, 6]


def test_an_empty_buffer_and_bad_sizes_are_named():
    with pytest.raises(ValueError, match="empty"):
        ReplayBuffer(4, 3, 2).sample(1)
    with pytest.raises(ValueError, match="capacity"):
        ReplayBuffer(0, 3, 2)
    with pytest.raises(ValueError, match="do not fit"):
        zeros = np.zeros(3)
        ReplayBuffer(2, 1, 1).add(zeros[:, None], zeros[:, None], zeros, zeros[:, None], zeros,
                                  zeros)  # fmt: skip


def test_the_buffer_forgets_the_oldest():
    buffer = ReplayBuffer(3, 1, 1)
    for k in range(5):
        buffer.add([k], [0], k, [k + 1], False, False)
    assert set(buffer.sample(200).reward.tolist()) == {2, 3, 4}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copied_buffer_stores_what_is_added_and_leaves_the_first_alone(copied):
    first = ReplayBuffer(3, 1, 1)
    first.add([1], [0], 1.0, [2], False, False)
    second = copied(first)
    second.add([2], [0], 7.0, [3], True, False)
    assert set(second.sample(100).reward.tolist()) == {1, 7}
    assert set(first.sample(100).reward.tolist()) == {1}


@pytest.mark.parametrize("capacity", [1e3, "5", None])
def test_a_capacity_that_is_no_whole_number_is_refused(capacity):
    with pytest.raises(ValueError, match="capacity must be a whole number"):
        ReplayBuffer(capacity, 1, 1)


@pytest.mark.parametrize("kind", [SAC, TD3])
def test_all_is_float32_whatever_pytorchs_default_is(kind):
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        agent, buffer = kind(1, 1, hidden=(4,)), ReplayBuffer(8, 1, 1)
        buffer.add([1], [0], 1.0, [2], False, False)
        batch = buffer.sample(4)
        agent.update(batch)
        action = agent.act(np.zeros(1))
    finally:
        torch.set_default_dtype(usual)
    assert {part.dtype for part in (*batch, *agent.parameters())} == {torch.float32}
    assert action.dtype == np.float32


@pytest.mark.parametrize("obs", [np.zeros(4), np.full(3, np.nan), np.zeros((2, 2, 3))])
def test_act_refuses_a_bad_observation(obs):
    with pytest.raises(ValueError, match="obs"):
        SAC(3, 2, hidden=(8,)).act(obs)


def test_actions_are_scaled_to_the_bounds_and_never_past_them():
    low, high = np.array([-2.0, 0.0]), np.array([2.0, 1.0])
    assert to_bounds(np.array([0.5, -1.0]), low, high).tolist() == [1.0, 0.0]
    for bad in (1.01, np.nan):
        with pytest.raises(ValueError, match="outside"):
            to_bounds(np.array([bad, 0.0]), low, high)
    with pytest.raises(ValueError, match="finite bounds"):
        to_bounds(np.zeros(2), low, np.array([np.inf, 1.0]))


def test_scaled_actions_lie_in_the_space_and_wide_bounds_do_not_overflow():
    rng = np.random.default_rng(0)
    for _ in range(300):
        low, high = np.sort(rng.uniform(-3, 3, (2, 1)), 0).astype(np.float32)
        space = gym.spaces.Box(low, high)
        for action in (-1.0, 1.0, rng.uniform(-1, 1)):
            for dtype in (np.float32, np.float64):
                assert space.contains(to_bounds(np.array([action], dtype), low, high))
        assert to_bounds(np.ones(1), low, high) == high and to_bounds(-np.ones(1), low, high) == low
    for wide in (np.finfo(np.float32).max, np.finfo(np.float64).max):
        bound = np.array([wide])
        for action in (-1.0, 0.0, 1.0):
            assert to_bounds(np.array([action]), -bound, bound) == action * wide


@pytest.mark.parametrize(
    "name, value",
    [("exploration_noise", math.nan), ("exploration_noise", math.inf), ("target_noise", -0.1),
     ("noise_clip", math.nan), ("policy_delay", 1.5), ("policy_delay", 0)],
)  # fmt: skip
def test_td3_refuses_noises_and_delays_that_make_no_sense(name, value):
    with pytest.raises(ValueError, match=name):
        TD3(1, 1, hidden=(4,), **{name: value})


# Training


class Count(gym.Env):
    """Counts up; truncated at 3 steps, terminated at 3 where it began at an odd episode."""

    observation_space = gym.spaces.Box(-100, 100, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self):
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.t = 0
        return np.array([0.0], np.float32), {}

    def step(self, action):
        self.t += 1
        end = self.t == 3
        odd = self.episode % 2 == 1
        return np.array([self.t], np.float32), 1.0, end and odd, end and not odd, {}


@pytest.mark.parametrize("mode", ["single", "next", "same"])
def test_what_followed_an_end_is_the_last_observation_and_no_reset_is_stored(mode):
    if mode == "single":
        env, steps = Count(), 12
    else:
        way = {"next": gym.vector.AutoresetMode.NEXT_STEP,
               "same": gym.vector.AutoresetMode.SAME_STEP}[mode]  # fmt: skip
        env, steps = gym.vector.SyncVectorEnv([Count, Count], autoreset_mode=way), 24
    agent = SAC(1, 1, hidden=(4,))
    history = train(agent, env, steps, 0, learning_starts=100, progress=False)
    rows = history.buffer._rows[: len(history.buffer)]
    obs, next_obs, terminated, truncated = rows[:, 0], rows[:, 2], rows[:, 4], rows[:, 5]
    assert torch.equal(next_obs, obs + 1)  # never from an end to a start
    assert torch.equal((terminated + truncated).bool(), next_obs == 3)
    assert terminated.sum() > 0 and truncated.sum() > 0
    assert all(found == 3 for _, found in history.episodes)
    assert len(rows) == steps if mode != "next" else len(rows) < steps


def test_training_is_repeatable_and_learns_as_often_as_told():
    agents = []
    for _ in range(2):
        agent = SAC(1, 1, hidden=(4,))
        train(agent, Count(), 20, 3, learning_starts=10, batch_size=4, updates_per_step=3,
              progress=False)  # fmt: skip
        agents.append(agent)
    assert agents[0].updates == 30 and torch.equal(weights(agents[0]), weights(agents[1]))


def test_training_fills_the_buffer_that_it_is_given_and_goes_on_with_it():
    buffer, agent = ReplayBuffer(30, 1, 1), SAC(1, 1, hidden=(4,))
    history = train(agent, Count(), 10, 0, buffer=buffer, learning_starts=5, progress=False)
    assert history.buffer is buffer and len(buffer) == 10
    train(agent, Count(), 12, 1, buffer=buffer, learning_starts=1, progress=False)
    assert len(buffer) == 22 and agent.updates == 5 + 11


def test_training_shows_its_progress(capsys):
    train(TD3(1, 1, hidden=(4,)), Count(), 8, 0, learning_starts=8, eval_env=Count(), eval_every=4)
    assert "step 8 of 8" in capsys.readouterr().err


def test_training_refuses_what_does_not_fit_before_the_first_step():
    env = Count()
    with pytest.raises(ValueError, match="environment has observations"):
        train(SAC(2, 1, hidden=(4,)), env, 8, 0)
    with pytest.raises(ValueError, match="steps"):
        train(SAC(1, 1, hidden=(4,)), env, 0, 0)
    with pytest.raises(ValueError, match="the buffer has obs_dim 2"):
        train(SAC(1, 1, hidden=(4,)), env, 8, 0, buffer=ReplayBuffer(9, 2, 1))
    with pytest.raises(ValueError, match="another environment"):
        train(SAC(1, 1, hidden=(4,)), env, 8, 0, eval_env=env)
    env.action_space = gym.spaces.Discrete(3)
    with pytest.raises(ValueError, match="Box of real actions"):
        train(SAC(1, 1, hidden=(4,)), env, 8, 0)
    with pytest.raises(ValueError, match="Box of real actions"):
        evaluate(SAC(1, 1, hidden=(4,)), env, 1, seed=0)
    assert env.episode == -1


class Strict(Count):
    """Takes no action that its space does not contain."""

    action_space = gym.spaces.Box(-0.1, 0.7, (1,))

    def step(self, action):
        assert self.action_space.contains(action)
        return super().step(action)


@pytest.mark.parametrize("kind", [SAC, TD3])
def test_actions_are_of_the_space_while_exploring_learning_and_evaluating(kind):
    agent = kind(1, 1, hidden=(4,))
    train(agent, Strict(), 12, 0, learning_starts=6, batch_size=4, eval_env=Strict(),
          eval_every=6, eval_episodes=1, progress=False)  # fmt: skip
    assert agent.updates == 6


def test_the_way_of_a_reset_may_be_given_as_a_string():
    def made(given):
        env = gym.vector.SyncVectorEnv(
            [Count, Count], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP
        )
        env.metadata = {**env.metadata, "autoreset_mode": given}
        return env

    agent = SAC(1, 1, hidden=(4,))
    history = train(agent, made("SameStep"), 24, 0, learning_starts=100, progress=False)
    rows = history.buffer._rows[: len(history.buffer)]
    assert len(rows) == 24 and torch.equal(rows[:, 2], rows[:, 0] + 1)
    with pytest.raises(ValueError, match="NextStep.*SameStep"):
        train(agent, made("same"), 24, 0, progress=False)
    with pytest.raises(ValueError, match="never resets"):
        train(agent, made("Disabled"), 24, 0, progress=False)


def test_returns_are_undiscounted_sums():
    assert evaluate(SAC(1, 1, hidden=(4,)), Count(), 4, seed=0).tolist() == [3, 3, 3, 3]


def test_q_is_compared_with_the_discounted_return_of_the_same_state():
    agent = TD3(1, 1, hidden=(4,), gamma=0.5)
    env = gym.wrappers.TimeLimit(Count(), 10)
    env.unwrapped.episode = 0  # the next episode terminates
    belief = q_against_return(agent, env, 1, seed=0)
    assert belief.returned.tolist() == [1.75, 1.5, 1.0] and belief.q.shape == (3,)
    with pytest.raises(ValueError, match="max_episode_steps"):
        q_against_return(agent, env, 1, seed=0)  # this one is truncated


# Statistics


def test_interquartile_mean_is_scipys_trimmed_mean():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 1), (5, 2), (10, 7)):
        scores = rng.normal(size=shape)
        assert interquartile_mean(scores) == pytest.approx(
            stats.trim_mean(scores, 0.25, axis=None)
        )
    with pytest.raises(ValueError, match="NaN"):
        interquartile_mean(np.array([1.0, np.nan]))


def test_bootstrap_redraws_within_tasks():
    # Runs agree within each task: whatever is redrawn, nothing varies.
    scores = np.array([[1.0, 9.0, 20.0, 4.0]] * 5)
    assert stratified_bootstrap(scores) == (6.5, 6.5)
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        low, high = stratified_bootstrap(rng.normal(size=(20, 2)), repeats=300)
        hits += low < 0 < high
    assert 84 <= hits <= 100
    with pytest.raises(ValueError, match="runs"):
        stratified_bootstrap(np.zeros((1, 3)))


# The listing


def listing_networks():
    torch.manual_seed(0)
    actor = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2), nn.Tanh())
    critic = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    return actor, critic


def test_listing_gives_its_actor_no_gradient():
    actor, critic = listing_networks()
    actor(torch.randn(4, 3))
    (-critic(torch.randn(4, 3)).mean()).backward()
    assert all(p.grad is None for p in actor.parameters())
    agent, batch = TD3(3, 2, hidden=(8,)), batch_of()
    agent.actor_loss(batch.obs).backward()
    assert agent.actor.flat.grad.abs().max() > 0


def test_listing_broadcasts_its_target_to_a_square():
    _, critic = listing_networks()
    states, rewards, dones = torch.randn(4, 3), torch.randn(4), torch.zeros(4)
    target = rewards + (1 - dones) * 0.99 * critic(states)
    assert target.shape == (4, 4)


def test_listing_clamp_has_no_gradient_outside_and_puts_mass_on_the_bounds():
    mean = torch.tensor([0.99], requires_grad=True)
    noise = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    action = (mean + 0.1 * noise).clamp(-1, 1)
    at_bound = (action == 1).double().mean().item()
    assert at_bound == pytest.approx(stats.norm.sf(0.1), abs=0.02)
    (gradient,) = torch.autograd.grad(action.mean(), mean)
    assert gradient.item() == pytest.approx(1 - at_bound, abs=1e-4)


def test_listing_treats_a_time_limit_as_an_end():
    # One state, reward 1, γ = 0.99, and each 50th step the time is up: 100 is right, 33.6 found.
    right = wrong = torch.zeros(50)
    time_up = torch.zeros(50)
    time_up[-1] = 1
    for _ in range(3000):
        right = td_target(torch.ones(50), 0 * time_up, right.mean().expand(50), 0.99)
        wrong = td_target(torch.ones(50), time_up, wrong.mean().expand(50), 0.99)
    assert right.mean().item() == pytest.approx(100, rel=1e-3)
    assert wrong.mean().item() == pytest.approx(1 / (1 - 0.99 * 0.98), rel=1e-3)


def test_listing_is_no_module_and_never_steps():
    assert isinstance(SAC(3, 2, hidden=(8,)), nn.Module)
    agent = SAC(3, 2, hidden=(8,))
    before = weights(agent)
    agent.update(batch_of())
    assert not torch.equal(weights(agent), before)


def test_listing_target_moves_with_the_critic_ours_slowly():
    agent, batch, noise = SAC(3, 2, hidden=(8,)), batch_of(), torch.zeros(16, 2)
    before = agent.target(batch, noise)
    with torch.no_grad():
        agent.critics.flat.add_(1.0)
    assert torch.equal(agent.target(batch, noise), before)


def test_squashed_log_prob_sums_over_the_dimensions():
    u = torch.randn(5, 3)
    whole = squashed_log_prob(u, torch.zeros(5, 3), torch.zeros(5, 3))
    parts = [squashed_log_prob(u[:, [k]], torch.zeros(5, 1), torch.zeros(5, 1)) for k in range(3)]
    assert torch.allclose(whole, sum(parts), atol=1e-5)
