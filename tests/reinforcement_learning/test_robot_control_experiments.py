"""What the recorded cells of 122.1a run, at a tiny size."""

import pytest
import torch

from dlcourse.reinforcement_learning import SAC, Batch
from dlcourse.reinforcement_learning.experiments import robot_control_reacher as reacher
from dlcourse.reinforcement_learning.experiments.robot_control_hopper import SeedsOfSAC, hopper

torch.set_num_threads(1)


@pytest.fixture
def tiny(monkeypatch):
    for name, value in {"batch": 8, "warm-up": 20, "episodes": 1, "hidden": 8}.items():
        monkeypatch.setitem(reacher.SETTINGS, name, value)


def test_contest_runs_both_on_the_same_steps(tiny):
    found = reacher.contest(seeds=(0, 1), steps=40, every=20)
    assert found["steps"] == [0, 20, 40] and list(found["paths"]) == ["0", "20", "40"]
    for name in ("ours", "peer"):
        assert [len(run) for run in found["returns"][name]] == [3, 3]
        assert min(found["steps per CPU second"][name]) > 0
    assert len(found["paths"]["0"]) == 50


def test_critics_contest_keeps_q_beside_the_return(tiny):
    found = reacher.critics_contest(seeds=(0,), steps=30, every=30)
    for name in ("twin", "single"):
        assert len(found[name]["q"][0]) == len(found[name]["returned"][0]) == 60
        assert max(found[name]["returned"][0]) < 0


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
