"""What the recorded cell of 122.1b runs, at a tiny size."""

import math

import pytest
import torch

from dlcourse.reinforcement_learning.experiments import sim_to_real_linear as linear_runs
from dlcourse.reinforcement_learning.experiments import sim_to_real_runs as runs
from dlcourse.reinforcement_learning.experiments import sim_to_real_training as training
from dlcourse.reinforcement_learning.sim_to_real.pendulum_batch import PendulumBatch

torch.set_num_threads(1)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(training, "GEARS", (0.5, 1.0))
    monkeypatch.setattr(training, "LATENCIES", (0, 1))
    monkeypatch.setattr(training, "MAX_STEPS", 30)


def test_transfer_scores_every_way_on_both_systems_for_each_seed(tiny):
    found = runs.transfer(steps=2 * 4096, seeds=(0, 1), episodes=1)
    ways = {"width 0", "width 1", "width 2", "fine-tuned", "identified", "oracle"}
    for name in runs.REALS:
        assert set(found["reals"][name]) == ways
        assert all(len(scores) == 2 for scores in found["reals"][name].values())
        for row in found["estimates"][name]:
            for key, (low, high) in row["intervals"].items():
                assert low < row["parameters"][key] < high
    assert [len(m) for m in found["maps"]["2"]] == [2, 2]
    assert all(len(curve) == 2 for curve in found["curves"]["1"])
    assert all(len(pair) == 2 for pair in found["on_nominal"]["0"])


def test_the_second_real_system_lies_outside_the_ranges_and_the_first_within():
    def outside(parameters):
        return {k for k, v in parameters.items() if not
                training.RANGES[k][0] <= v <= training.RANGES[k][1]}  # fmt: skip

    assert outside(runs.REALS["inside"]) == set()
    assert outside(runs.REALS["outside"]) == {"gear", "latency"}
    for parameters in runs.REALS.values():
        assert all(runs.BOUNDS[k][0] <= v <= runs.BOUNDS[k][1] for k, v in parameters.items())


def test_the_data_are_five_seconds_as_the_sensors_say_them():
    episodes = runs.real_episodes(training.new_agent(0), runs.REALS["inside"], seed=0)
    steps = sum(len(e.actions) for e in episodes)
    assert steps * runs.CONTROL_STEP == pytest.approx(runs.SECONDS)
    assert all(abs(e.actions).max() <= 3 for e in episodes)
    assert PendulumBatch(1, seed=0).model.opt.timestep * 2 == pytest.approx(runs.CONTROL_STEP)


def test_an_interval_without_an_end_is_cut_at_the_bounds():
    class Found:
        parameters = {"gear": 1.0, "latency": 2}
        names = ("gear",)

        def interval(self, name):
            return 0.0, math.inf

    assert runs.around(Found()) == {"latency": (2, 2), "gear": runs.BOUNDS["gear"]}


def test_exploring_again_gives_a_policy_its_first_noise():
    agent = training.new_agent(0)
    with torch.no_grad():
        agent.network.log_std.fill_(-3.0)
    runs.explore_again(agent)
    assert agent.network.log_std.tolist() == [training.LOG_STD]


def test_a_length_counts_the_first_episode_alone(tiny):
    short, long = training.lengths_on(
        training.new_agent(0), [{"gear": 1e-6, "latency": 0}, {"gear": 1.0, "latency": 0}], seed=0
    )
    assert 0 < short <= 30 and 0 < long <= 30


def test_the_baselines_without_a_network_stand_beside_the_policies(tiny):
    found = linear_runs.baselines(seeds=(0,), episodes=1, num=40)
    for name in runs.REALS:
        rows = found["reals"][name]
        assert set(rows) == {"zero action", "by hand", "linear, identified", "linear, oracle"}
        assert len(rows["by hand"]) == len(rows["linear, identified"]) == 1
    assert found["reals"]["inside"]["by hand"] == [30]
    assert found["on_nominal"]["by hand"] == 30
    assert found["map_means"]["zero action"] < found["map_means"]["by hand"]


def test_a_linear_search_on_the_true_parameters_holds_the_second_real_system():
    truth = runs.REALS["outside"]
    agent = linear_runs.LinearAgent(linear_runs.search(truth, seed=0))
    assert runs.score(agent, truth) == 1000
    assert runs.score(linear_runs.LinearAgent(linear_runs.GAIN), truth) < 100


def test_the_coverage_counts_intervals_and_compares_their_width_with_the_spread():
    found = linear_runs.coverage(sets=6)
    assert found["sets"] == 6 and set(found["holds"]) == {"mass:pole", "gear", "damping"}
    for name, count in found["holds"].items():
        assert 4 <= count <= 6
        assert 0.4 < found["error"][name] / found["deviation"][name] < 2.5
