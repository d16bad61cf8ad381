"""What the recorded cells of 122.1a run, at a tiny size."""

import multiprocessing

import pytest
import torch

from dlcourse.reinforcement_learning import SAC, Batch
from dlcourse.reinforcement_learning.experiments import robot_control_reacher as reacher
from dlcourse.reinforcement_learning.experiments.robot_control_hopper import SeedsOfSAC, hopper
from dlcourse.reinforcement_learning.robot_control.peers import StableBaselinesSAC, copy_weights

torch.set_num_threads(1)


@pytest.fixture
def tiny(monkeypatch):
    for name, value in {"batch": 8, "warm-up": 20, "episodes": 1, "hidden": 8}.items():
        monkeypatch.setitem(reacher.SETTINGS, name, value)


def test_contest_runs_both_on_the_same_steps(tiny):
    found = reacher.contest(
        seeds=(0, 1), steps=40, every=20, longer=50, updates=2, wide=(16, 8)
    )
    assert found["steps"] == [0, 20, 40]
    assert found["longer"]["steps"] == [0, 10, 20, 30, 40, 50]
    assert [int(k) for k in found["paths"]] == found["longer"]["steps"]
    assert len(found["longer"]["returns"]) == 6
    for name in ("ours", "peer"):
        assert [len(run) for run in found["returns"][name]] == [3, 3]
        assert min(found["steps per CPU second"][name]) > 0
    assert len(found["paths"]["0"]) == 50
    assert list(found["ms an update"]) == ["8", "16"]


def test_critics_contest_keeps_q_beside_the_return(tiny):
    found = reacher.critics_contest(seeds=(0,), steps=30, every=15, episodes=1)
    for name in ("twin", "single"):
        assert len(found[name]["q"][0]) == len(found[name]["returned"][0]) == 10
        assert len(found[name]["bias"][0]) == len(found[name]["returns"][0]) == 2
        assert max(found[name]["returned"][0]) <= 0


def test_an_update_from_the_same_weights_and_batch_is_that_of_stable_baselines3(monkeypatch):
    agent = SAC(10, 2, hidden=(16, 16), lr=1e-3)
    peer = StableBaselinesSAC(
        reacher.make(), hidden=(16, 16), lr=1e-3, gamma=0.99, tau=0.005, batch_size=1,
        learning_starts=0, capacity=1, seed=0,
    )  # fmt: skip
    with torch.no_grad():  # targets that differ from the critics
        agent.target_critics.flat.mul_(0.9)
    copy_weights(agent, peer)
    start = agent.critics.flat.detach().clone()
    for seed in range(8):  # a batch of one: the peer draws from a buffer of one
        g = torch.Generator().manual_seed(seed)
        obs, next_obs, action = (torch.randn(1, n, generator=g) for n in (10, 10, 2))
        reward, action = torch.randn(1, generator=g), action.tanh()
        over = torch.tensor([float(seed % 3 == 0)])
        noise, next_noise = 0.5 * torch.randn(2, 1, 2, generator=g)
        drawn, wanted = [noise, next_noise], [next_noise, noise]
        monkeypatch.setattr(
            torch.distributions.normal, "_standard_normal", lambda *_a, **_k: drawn.pop(0)
        )
        monkeypatch.setattr(agent, "noise", lambda *_: wanted.pop(0))
        peer.add(obs[0], action[0], reward[0], next_obs[0], over[0])
        theirs = peer.update()
        before = agent.log_alpha.item()
        ours = agent.update(Batch(obs, action, reward, next_obs, over, torch.zeros(1)))
        alpha = -before * (agent.target_entropy - ours["entropy"].item())
        assert ours["critic"].item() / 2 == pytest.approx(theirs["train/critic_loss"], rel=1e-4,
                                                          abs=1e-5)  # fmt: skip
        assert ours["actor"].item() == pytest.approx(theirs["train/actor_loss"], abs=3e-5)
        assert alpha == pytest.approx(theirs["train/ent_coef_loss"], abs=1e-5)
    assert not drawn and not wanted
    moved = agent.critics.flat.detach().clone()
    copied = peer.model.policy.critic.q_networks[1][2].weight.T
    assert not torch.equal(moved, start)
    assert torch.allclose(copied, agent.critics.parts(moved)[2][1], atol=1e-4)


def test_seeds_side_by_side_equal_sac_alone():
    many = SeedsOfSAC(3, 2, seeds=2, capacity=10, device="cpu", hidden=8, batch=4)
    alone = SAC(3, 2, hidden=(8, 8))
    with torch.no_grad():
        pairs = ((alone.actor, many.actors, slice(1, 2)), (alone.critics, many.critics,
                 slice(2, 4)), (alone.target_critics, many.targets, slice(2, 4)))  # fmt: skip
        for one, all_of_them, part in pairs:
            for own, shared in zip(one.parts(one.flat), all_of_them.parts(all_of_them.flat),
                                   strict=True):  # fmt: skip
                own.copy_(shared[part])
    for _ in range(5):
        rows = torch.randn(2, 4, 10)
        rows[..., 3:5].tanh_()
        rows[..., 9] = (rows[..., 9] > 0.5).float()
        state = alone.generator.get_state()
        next_noise, noise = alone.noise(4, 2), alone.noise(4, 2)
        alone.generator.set_state(state)
        many.learn(rows, torch.stack([noise * 0, noise]), torch.stack([noise, next_noise]))
        o, a, n, r, d = rows[1].split(many.widths, -1)
        alone.update(Batch(o, a, r[:, 0], n, d[:, 0], torch.zeros(4)))
    for one, all_of_them, part in pairs:
        for own, shared in zip(one.parts(one.flat), all_of_them.parts(all_of_them.flat),
                               strict=True):  # fmt: skip
            assert torch.allclose(own, shared[part], atol=2e-6)
    assert many.log_alpha[1].item() == pytest.approx(alone.log_alpha.item(), abs=1e-6)


def test_each_seed_draws_from_what_has_been_stored():
    many = SeedsOfSAC(1, 1, seeds=2, capacity=5, device="cpu", hidden=4, batch=200)
    for k in range(7):
        many.add(torch.full((2, 1, 5), float(k)) + torch.tensor([0.0, 100.0])[:, None, None])
        low = max(0, k - 4)
        drawn = many.sample()
        assert set(drawn[0, :, 0].tolist()) == set(range(low, k + 1))
        assert set(drawn[1, :, 0].tolist()) == set(range(100 + low, 100 + k + 1))


def test_hopper_runs_in_processes():
    found = hopper(seeds=2, copies=1, seconds=60, evaluate_every=20, episodes=1, hidden=8,
                   batch=8, warm_up=10, max_steps=30, device="cpu")  # fmt: skip
    assert found["steps"] == [0, 20, 30] and found["updates"] == 20 and found["how"] == "eager"
    assert [len(one) for one in found["returns"]] == [2, 2, 2]
    assert found["stopped"] == "at the end of the time"
    assert not multiprocessing.active_children()


def test_an_error_in_the_middle_leaves_a_record_and_no_process(monkeypatch):
    def fail(self):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(SeedsOfSAC, "update", fail)
    found = hopper(seeds=1, copies=1, seconds=60, episodes=1, hidden=8, batch=8, warm_up=10,
                   max_steps=30, device="cpu")  # fmt: skip
    assert found["steps"] == [0] and found["stopped"] == "RuntimeError: out of memory"
    assert not multiprocessing.active_children()
