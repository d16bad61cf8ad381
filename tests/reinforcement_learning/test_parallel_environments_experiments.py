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
    found = speed.contest({"easy": easy, "hard": hard}, arms, seeds=(0, 1), limit=1.0)
    first = found["easy"]["torch"][0]
    assert first["steps"] == first["curve"][-1][1] and first["steps"] % (8 * 4) == 0
    assert 0.2 <= first["seconds"] == first["curve"][-1][0] <= 1.0
    assert speed.median_seconds(found["easy"]["gym"]) > 0
    assert speed.median_seconds(found["hard"]["gym"]) is None
    assert found["hard"]["torch"][0]["curve"][-1][2] <= 500


def test_a_target_that_is_met_only_after_the_limit_is_not_reached(monkeypatch):
    clock = iter(range(1000))  # seconds: each update takes one
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    scores = iter([0.0, 0.0, 600.0])
    monkeypatch.setattr(
        speed, "first_episode_returns", lambda *_: torch.full((1,), next(scores))
    )
    task = speed.Task(CartPole, "CartPole-v1", 475.0, {"epochs": 1})
    late = speed.time_to_return(task, speed.Arm("torch", "cpu", 4, 8), 0, limit=2.5)
    assert late["curve"] == [[1.0, 32, 0.0], [2.0, 64, 0.0], [3.0, 96, 600.0]]
    assert late["seconds"] is None and late["steps"] is None
    scores = iter([0.0, 0.0, 600.0])
    timely = speed.time_to_return(task, speed.Arm("torch", "cpu", 4, 8), 0, limit=3.0)
    assert (timely["seconds"], timely["steps"]) == (3.0, 96)


def test_checks_are_apart_by_a_tenth_of_the_training_so_far(monkeypatch):
    clock = (i / 8 for i in range(10_000))  # an update takes an eighth of a second
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    task = speed.Task(CartPole, "CartPole-v1", 501.0, {"epochs": 1})
    run = speed.time_to_return(task, speed.Arm("torch", "cpu", 2, 2), 0, limit=10.0, judges=2)
    at = [seconds for seconds, _, _ in run["curve"]]
    assert at[:3] == [0.25, 0.5, 0.75] and at[-1] == 10.0 and len(at) <= 30
    gaps = [b - a for a, b in zip(at[:-1], at[1:-1], strict=False)]
    assert all(max(0.2, a / 10) <= gap <= max(0.2, a / 10) + 1 / 8
               for a, gap in zip(at, gaps, strict=False))  # fmt: skip


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
