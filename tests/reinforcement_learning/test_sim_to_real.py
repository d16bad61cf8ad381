"""122.1b: physics that change and come back, identification, the gap, and the listing's defects."""

import ast
import math

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch

from dlcourse.reinforcement_learning import (
    DomainRandomization,
    SystemIdentifier,
    sim_to_real_gap,
)
from dlcourse.reinforcement_learning.sim_to_real import physics
from dlcourse.reinforcement_learning.sim_to_real.identification import Episode, delayed
from dlcourse.reinforcement_learning.sim_to_real.pendulum_batch import (
    MAX_STEPS,
    PendulumBatch,
    pendulum_model,
)
from dlcourse.reinforcement_learning.sim_to_real.randomization import widened

RANGES = {
    "mass:pole": (0.5, 3.0),
    "gear": (0.4, 2.5),
    "damping": (0.2, 3.0),
    "friction": (0.5, 2.0),
    "latency": (0, 2),
    "noise": (0.0, 0.01),
}
REAL = {"mass:pole": 2.0, "gear": 0.6, "damping:hinge": 2.0, "latency": 1}


def pendulum():
    return gym.make("InvertedPendulum-v5")


def bits(model):
    return {name: array.tobytes() for name, array in physics.numbers_of(model).items()}


def balanced(state):
    """A hand-made controller: (…, 4) -> (…, 1)."""
    gain = np.array([0.2, 4.0, 0.3, 0.5])
    return np.clip((np.asarray(state) * gain).sum(-1, keepdims=True), -3, 3).astype(np.float32)


def episodes_of(parameters, steps=125, seed=0, error=0.0):
    """Five seconds (of 0.04 s) of the real pendulum under an exploring controller."""
    batch, rng = PendulumBatch(1, seed=seed, parameters=[parameters]), np.random.default_rng(seed)
    found, states, actions = [], [batch.state[0]], []
    for t in range(steps):
        action = balanced(batch.state) + rng.normal(0, 0.3, (1, 1)).astype(np.float32)
        action = np.clip(action, -3, 3)
        step = batch.step(action)
        states.append(step.final[0])
        actions.append(action[0])
        if step.terminated[0] or t == steps - 1:
            noise = rng.normal(0, error, (len(states), 4)) if error else 0.0
            found.append(Episode(np.array(states) + noise, np.array(actions)))
            states, actions = [batch.state[0]], []
    return found


# -- the wrapper -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["InvertedPendulum-v5", "Hopper-v5"])
def test_after_the_wrapper_every_array_of_the_model_is_as_before_bit_by_bit(name):
    env = gym.make(name)
    model, before = env.unwrapped.model, bits(env.unwrapped.model)
    ranges = {k: (0.5, 2.0) for k in ("mass", "friction", "damping", "gear")}
    wrapped = DomainRandomization(env, ranges, seed=0)
    for _ in range(3):
        wrapped.reset()
        wrapped.step(env.action_space.sample())
    changed = {field for field, array in bits(model).items() if array != before[field]}
    assert {"body_mass", "body_inertia", "geom_friction", "dof_damping", "actuator_gear"} <= changed
    assert "dof_invweight0" in changed  # mj_setConst has run
    wrapped.close()
    assert bits(model) == before


def test_constants_are_those_of_a_model_compiled_with_these_masses():
    spec = mujoco.MjSpec.from_string(
        "<mujoco><worldbody><body name='b'><joint type='hinge' axis='0 1 0'/>"
        "<geom name='g' type='capsule' fromto='0 0 0 0 0 .6' size='.05' density='1000'/></body>"
        "</worldbody></mujoco>"
    )
    light = spec.compile()
    spec.geom("g").density = 2500
    heavy, nominal = spec.compile(), physics.copy_of(light)
    physics.write(light, nominal, {"mass": 2.5})
    for field in ("body_mass", "body_inertia", "body_subtreemass", "body_invweight0"):
        np.testing.assert_allclose(getattr(light, field), getattr(heavy, field), rtol=1e-12)
    np.testing.assert_allclose(light.dof_invweight0, heavy.dof_invweight0, rtol=1e-12)
    assert light.stat.meanmass == pytest.approx(heavy.stat.meanmass)
    physics.restore(light, nominal)
    assert bits(light) == bits(nominal) and light.stat.meanmass == nominal.stat.meanmass


def test_draws_come_from_the_seed_and_lie_in_the_ranges():
    def drawn(seed):
        env = DomainRandomization(pendulum(), RANGES, seed=seed)
        return [env.reset()[1]["parameters"] for _ in range(60)]

    first = drawn(3)
    assert first == drawn(3) != drawn(4)
    for name, (low, high) in RANGES.items():
        values = [p[name] for p in first]
        assert low <= min(values) < max(values) <= high
    assert {p["latency"] for p in first} == {0, 1, 2}
    halves = [p["mass:pole"] < math.sqrt(0.5 * 3.0) for p in first]
    assert 15 < sum(halves) < 45  # log-uniform: the geometric mean is the median


def test_reset_with_a_seed_starts_the_draws_anew():
    env = DomainRandomization(pendulum(), RANGES, seed=0)
    (first, info), _ = env.reset(seed=5), env.reset()
    again, same = env.reset(seed=5)
    assert np.array_equal(first, again) and info["parameters"] == same["parameters"]
    assert env.reset(seed=6)[1]["parameters"] != same["parameters"]


@pytest.mark.parametrize("latency", [0, 1, 3])
def test_a_latency_of_k_steps_delays_an_action_by_k_steps(latency):
    """A push at step 0 changes the state first at step k, and then as an immediate one would."""
    paths = []
    for push in (0.0, 1.0):
        env = DomainRandomization(pendulum(), {}, seed=0)
        env.reset(seed=0, options={"parameters": {"latency": latency}})
        actions = [push, 0.0, 0.0, 0.0, 0.0]
        paths.append(np.array([env.step(np.array([a], np.float32))[0] for a in actions]))
    differs = (paths[0] != paths[1]).any(1)
    assert not differs[:latency].any() and differs[latency:].all()


def test_noise_has_its_deviation_in_the_units_given_and_leaves_the_physics_alone():
    env = DomainRandomization(
        pendulum(), {"noise": (0.02, 0.02)}, seed=0, observation_scale=[1.0, 1.0, 10.0, 10.0]
    )
    errors = []
    for _ in range(30):
        observation, _ = env.reset()
        for _ in range(20):
            data = env.unwrapped.data
            errors.append(observation - np.concatenate([data.qpos, data.qvel]))
            observation, _, over, _, _ = env.step(np.zeros(1, np.float32))
            if over:
                break
    np.testing.assert_allclose(np.std(errors, 0), [0.02, 0.02, 0.2, 0.2], rtol=0.2)


@pytest.mark.parametrize(
    "ranges, error, words",
    [
        ({"gear": (2.0, 1.0)}, ValueError, "upside down"),
        ({"gear": (0.0, 1.0)}, ValueError, "above 0"),
        ({"gear": (-1.0, 1.0)}, ValueError, "above 0"),
        ({"gear": (0.5, math.nan)}, ValueError, "finite"),
        ({"gear": (0.5, math.inf)}, ValueError, "finite"),
        ({"gear": (1.0,)}, ValueError, "low, high"),
        ({"gear": 1.0}, ValueError, "low, high"),
        ({"gear": ("a", "b")}, TypeError, "number"),
        ({"colour": (0.5, 1.0)}, ValueError, "unknown parameter 'colour'"),
        ({"mass:leg": (0.5, 1.0)}, ValueError, "no body 'leg'"),
        ({"damping:leg": (0.5, 1.0)}, ValueError, "no joint 'leg'"),
        ({"gear:leg": (0.5, 1.0)}, ValueError, "no actuator 'leg'"),
        ({"friction:leg": (0.5, 1.0)}, ValueError, "no geom 'leg'"),
        ({"latency": (0, 1.5)}, ValueError, "whole number"),
        ({"latency": (-1, 1)}, ValueError, "whole number"),
        ({"noise": (-0.1, 0.1)}, ValueError, "0 or more"),
        ({"mass": (0.5, 1.0), "mass:pole": (0.5, 1.0)}, ValueError, "same element"),
        ([("gear", (1.0, 2.0))], TypeError, "dict"),
    ],
)
def test_a_bad_range_is_refused_and_changes_nothing(ranges, error, words):
    env = pendulum()
    before = bits(env.unwrapped.model)
    with pytest.raises(error, match=words):
        DomainRandomization(env, ranges, seed=0)
    assert bits(env.unwrapped.model) == before


def test_other_bad_input_is_refused():
    env = pendulum()
    for seed in (-1, 0.5, None, True):
        with pytest.raises(ValueError, match="seed"):
            DomainRandomization(env, {}, seed=seed)
    with pytest.raises(TypeError, match="MuJoCo"):
        DomainRandomization(gym.make("CartPole-v1"), {}, seed=0)
    with pytest.raises(ValueError, match="observation_scale"):
        DomainRandomization(env, {}, seed=0, observation_scale=[1.0, 0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="already"):
        DomainRandomization(DomainRandomization(env, {}, seed=0), {}, seed=0)


def test_a_bad_reset_or_action_changes_nothing():
    env = DomainRandomization(pendulum(), RANGES, seed=0)
    env.reset(seed=0)
    before, drawn = bits(env.unwrapped.model), dict(env.parameters)
    state = env.unwrapped.data.qpos.copy()
    for parameters in ({"gear": math.nan}, {"mass": 2.0}, {"colour": 1.0}, {"latency": 0.5}):
        with pytest.raises(ValueError):
            env.reset(options={"parameters": parameters})
    for action in (np.array([math.nan]), np.zeros(2), 0.0):
        with pytest.raises(ValueError, match="action"):
            env.step(action)
    assert bits(env.unwrapped.model) == before and env.parameters == drawn
    assert np.array_equal(env.unwrapped.data.qpos, state)


def test_widths():
    assert widened({"gear": (0.5, 4.0), "latency": (0, 2), "noise": (0.0, 0.1)}, 0.5) == {
        "gear": (0.5**0.5, 2.0),
        "latency": (0, 1),
        "noise": (0.0, 0.05),
    }
    assert widened({"gear": (0.5, 4.0)}, 0) == {"gear": (1.0, 1.0)}
    with pytest.raises(ValueError, match="width"):
        widened({}, -1)


# -- many at once ----------------------------------------------------------------------------------


def test_the_batch_is_the_gymnasium_environment_bit_by_bit():
    sets = [
        {"mass:pole": m, "gear": g, "damping:hinge": d, "latency": k}
        for m, g, d, k in [(1.0, 1.0, 1.0, 0), (2.0, 0.5, 3.0, 2), (0.5, 2.5, 0.2, 1)]
    ]
    batch = PendulumBatch(3, seed=0, parameters=sets)
    envs = [DomainRandomization(pendulum(), {}, seed=0) for _ in sets]
    starts = []
    for k, (env, parameters) in enumerate(zip(envs, sets, strict=True)):
        env.reset(seed=k, options={"parameters": parameters})
        starts.append(np.concatenate([env.unwrapped.data.qpos, env.unwrapped.data.qvel]))
    batch.set_state(np.array(starts))
    running = [True] * 3
    rng = np.random.default_rng(0)
    for _ in range(80):
        actions = rng.uniform(-0.4, 0.4, (3, 1)).astype(np.float32)
        step = batch.step(actions)
        for k, env in enumerate(envs):
            if running[k]:
                observation, reward, terminated, _, _ = env.step(actions[k])
                assert np.array_equal(observation, step.final[k])
                assert reward == step.reward[k] and terminated == step.terminated[k]
                running[k] = not terminated
    assert not all(running)


def test_the_batch_is_cut_off_at_a_thousand_steps_and_starts_anew():
    batch = PendulumBatch(2, seed=0, parameters=[{"gear": 1.0}, {"gear": 1e-6}])
    for t in range(MAX_STEPS):
        step = batch.step(balanced(batch.state))
        if t < MAX_STEPS - 1:
            assert not step.truncated.any()
    assert step.truncated[0] and not step.terminated[0] and step.reward[0] == 1
    assert np.abs(step.observation[0]).max() <= 0.01
    assert not np.array_equal(step.observation[0], step.final[0])


def test_the_batch_draws_new_physics_for_each_episode_and_refuses_bad_input():
    batch = PendulumBatch(4, {"gear": (0.5, 2.0), "latency": (0, 2)}, seed=0)
    first = [p["gear"] for p in batch.parameters]
    assert len(set(first)) == 4
    while not batch.step(np.full((4, 1), 3.0)).terminated.any():
        pass
    assert [p["gear"] for p in batch.parameters] != first
    before = batch.state.copy()
    for bad in (np.zeros(4), np.full((4, 1), math.nan)):
        with pytest.raises(ValueError, match="actions"):
            batch.step(bad)
    with pytest.raises(ValueError, match="state"):
        batch.set_state(np.zeros((3, 4)))
    assert np.array_equal(batch.state, before)
    with pytest.raises(ValueError, match="num"):
        PendulumBatch(0, seed=0)
    with pytest.raises(ValueError, match="same names"):
        PendulumBatch(2, seed=0, parameters=[{"gear": 1.0}, {"mass": 1.0}])
    with pytest.raises(ValueError, match="not both"):
        PendulumBatch(1, {"gear": (1.0, 2.0)}, seed=0, parameters=[{"gear": 1.0}])


# -- identification --------------------------------------------------------------------------------

BOUNDS = {"mass:pole": (0.2, 8.0), "gear": (0.1, 8.0), "damping:hinge": (0.05, 10.0)}


def identifier(bounds=BOUNDS, latency=(0, 3)):
    return SystemIdentifier(pendulum_model(), {**bounds, "latency": latency}, frame_skip=2)


def test_the_parameters_are_found_from_five_seconds_of_exact_transitions():
    found = identifier().fit(episodes_of(REAL))
    assert found.parameters["latency"] == REAL["latency"]
    for name in BOUNDS:
        assert found.parameters[name] == pytest.approx(REAL[name], rel=1e-5)
    assert found.residual < 1e-6 < 0.1 < found.residual_of_latency[0]


def test_intervals_hold_the_truth_about_as_often_as_they_say_where_only_the_outcome_is_noisy():
    """Noise on s′ alone, the case of the theory: 95 % intervals from 20 data sets."""
    fit, hits = identifier(latency=(1, 1)), 0
    rng = np.random.default_rng(0)
    for seed in range(20):
        whole = episodes_of(REAL, steps=40, seed=seed)
        pairs = [
            Episode(
                np.stack([e.states[t], e.states[t + 1] + rng.normal(0, 1e-3, 4)]),
                np.zeros((1, 1)),
            )
            for e in whole
            for t in range(len(e.actions))
        ]
        # Each pair is an episode whose action was given one step before: zero is in force.
        still = [pair for pair, e in zip(pairs, pairs, strict=True)]
        model = fit._model
        physics.write(model, fit._nominal, REAL)
        states = np.array([p.states[0] for p in still])
        nexts = fit.predict(REAL, states, np.zeros((len(states), 1)))
        noisy = nexts + rng.normal(0, 1e-3, nexts.shape) * nexts.std(0)
        found = SystemIdentifier(
            pendulum_model(), {"damping:hinge": (0.05, 10.0)}, frame_skip=2
        )
        base = {k: v for k, v in REAL.items() if k in ("mass:pole",)}
        found._nominal = physics.copy_of(model)
        physics.write(found._nominal, physics.copy_of(pendulum_model()), base)
        result = found.fit(
            [Episode(np.stack([s, n]), np.zeros((1, 1))) for s, n in zip(states, noisy, strict=True)]
        )
        low, high = result.interval("damping:hinge")
        hits += low <= REAL["damping:hinge"] <= high
    assert hits >= 15
