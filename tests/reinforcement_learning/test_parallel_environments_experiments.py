"""What the recorded cells of 122.1c measure, at a tiny size."""

from pathlib import Path

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

from dlcourse.reinforcement_learning import CartPole, GymnasiumVector  # noqa: E402
from dlcourse.reinforcement_learning.experiments import (  # noqa: E402
    parallel_environments_peer as peer,
)
from dlcourse.reinforcement_learning.experiments import (  # noqa: E402
    parallel_environments_speed as speed,
)


def test_throughput_has_every_kind_and_size():
    kinds = {
        "torch": (lambda task, n: task.batched(n), "cpu", (2, 8)),
        "sync": (lambda task, n: GymnasiumVector(task.name, n), "cpu", (2,)),
        "async": (lambda task, n: GymnasiumVector(task.name, n, asynchronous=True), "cpu", (2,)),
    }
    for task in speed.TASKS.values():
        found = speed.throughput(task, kinds, seconds=0.02, rounds=2)
        assert {k: list(v) for k, v in found.items()} == {
            "torch": ["2", "8"], "sync": ["2"], "async": ["2"]
        }  # fmt: skip
        assert all(len(r) == 2 and min(r) > 0 for v in found.values() for r in v.values())


def test_gymnasiums_own_rows_move_as_its_single_environments_do():
    rows = speed.GymnasiumArrays("CartPole-v1", 5, seed=3)
    assert type(rows.envs.unwrapped).__name__ == "CartPoleVectorEnv"
    singles = [gymnasium.make("CartPole-v1").unwrapped for _ in range(5)]
    for i, single in enumerate(singles):
        single.reset()
        single.state = rows.envs.unwrapped.state[:, i].copy()
    g = torch.Generator().manual_seed(0)
    for _ in range(8):  # fewer than any pole needs to fall
        action = torch.randint(2, (5,), generator=g)
        step = rows.step(action)
        for i, single in enumerate(singles):
            obs, reward, terminated, _, _ = single.step(action[i].item())
            np.testing.assert_allclose(step.obs[i], obs, rtol=1e-5, atol=1e-6)
            assert (step.reward[i].item(), step.terminated[i].item()) == (reward, terminated)
    rows.close()


def test_all_of_gymnasiums_forms_of_cart_pole_are_contestants_on_the_page():
    page = Path(__file__).parents[2] / "chapters/122_reinforcement_learning"
    source = (page / "1c_parallel_environments.py").read_text()
    cell = source.split('name="steps"')[1].split("# %%")[0]
    for contestant in ("task.batched(n", "GymnasiumVector(task.name, n)", "asynchronous=True",
                       "speed.GymnasiumArrays(task.name, n)"):  # fmt: skip
        assert contestant in cell
    kinds = {"rows": (lambda task, n: speed.GymnasiumArrays(task.name, n), "cpu", (2, 8))}
    found = speed.throughput(speed.TASKS["CartPole"], kinds, seconds=0.02, rounds=2)
    assert all(len(r) == 2 and min(r) > 0 for r in found["rows"].values())


def test_the_contest_tells_who_reached_the_target():
    easy = speed.Task(CartPole, "CartPole-v1", 5.0, {"epochs": 1})
    hard = speed.Task(CartPole, "CartPole-v1", 501.0, {"epochs": 1})
    arms = {"torch": speed.Arm("torch", "cpu", 4, 8), "gym": speed.Arm("gymnasium", "cpu", 2, 8)}
    found = speed.contest({"easy": easy, "hard": hard}, arms, seeds=(0, 1), limit=0.05)
    assert found["easy"]["torch"][0]["steps"] == 5 * 8 * 4
    assert speed.median_seconds(found["easy"]["gym"]) > 0
    assert speed.median_seconds(found["hard"]["gym"]) is None
    assert found["hard"]["torch"][0]["curve"][-1][2] <= 500


def test_the_contestants_take_equal_steps_and_meet_one_judge():
    pytest.importorskip("stable_baselines3")
    tiny = peer.Settings(num_envs=2, steps=8, epochs=2, batch=16, total=64, checks=2, judges=4)
    found = peer.compare((0, 1), tiny)
    assert set(found) == {"ours, Gymnasium", "stable-baselines3", "ours, batched"}
    for rows in found.values():
        assert [len(r["scores"]) for r in rows] == [2, 2]
        assert all(1 <= x <= 500 for r in rows for x in r["scores"])
    theirs = peer.Theirs(tiny, 0)
    theirs.learn()
    theirs.learn()
    assert theirs.model.num_timesteps == 64
