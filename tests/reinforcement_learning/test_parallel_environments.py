"""The batched tasks against Gymnasium's, and PPO in both."""

import statistics

import numpy as np
import pytest
import torch

from dlcourse.reinforcement_learning import (
    PPO,
    CartPole,
    GymnasiumVector,
    Pendulum,
    collect_rollout,
    first_episode_returns,
)

gymnasium = pytest.importorskip("gymnasium")


def random_actions(env, g):
    if env.discrete:
        return torch.randint(2, (env.num_envs,), generator=g)
    return 3 * torch.randn(env.num_envs, 1, generator=g)  # some beyond the bounds


@pytest.mark.parametrize(("kind", "name"), [(CartPole, "CartPole-v1"), (Pendulum, "Pendulum-v1")])
def test_a_thousand_random_steps_are_those_of_gymnasium(kind, name):
    theirs = gymnasium.make(name)
    theirs.reset(seed=0)
    ours = kind(1, obs_dtype=torch.float64)
    ours.state = torch.tensor(np.array(theirs.unwrapped.state, dtype=np.float64))[None]
    g = torch.Generator().manual_seed(1)
    ends = 0
    for _ in range(1000):
        action = random_actions(ours, g)
        given = int(action) if ours.discrete else action[0].double().numpy().clip(-2, 2)
        obs, reward, terminated, truncated, _ = theirs.step(given)
        step = ours.step(action.double() if not ours.discrete else action)
        np.testing.assert_allclose(step.reached[0], obs, rtol=1e-6, atol=1e-6)  # obs is float32
        assert step.reward.item() == pytest.approx(float(reward), abs=1e-9)
        assert (step.terminated.item(), step.truncated.item()) == (terminated, truncated)
        if terminated or truncated:
            ends += 1
            theirs.reset()
            ours.state = torch.tensor(np.array(theirs.unwrapped.state, dtype=np.float64))[None]
        else:
            exact = np.array(theirs.unwrapped.state, dtype=np.float64)
            np.testing.assert_allclose(ours.state[0].numpy(), exact, rtol=0, atol=1e-9)
    assert ends >= 5


@pytest.mark.parametrize("kind", [CartPole, Pendulum])
def test_a_batch_is_its_rows_apart(kind):
    env = kind(7, obs_dtype=torch.float64)
    start = env.state
    g = torch.Generator().manual_seed(0)
    actions = [random_actions(env, g) for _ in range(5)]
    steps = [env.step(a) for a in actions]
    for i in range(7):
        one = kind(1, obs_dtype=torch.float64)
        one.state = start[i : i + 1]
        for action, step in zip(actions, steps, strict=True):
            alone = one.step(action[i : i + 1])
            torch.testing.assert_close(alone.reached[0], step.reached[i])
            torch.testing.assert_close(alone.reward[0], step.reward[i])


def test_an_ended_episode_starts_anew_and_the_others_go_on():
    env = CartPole(3, obs_dtype=torch.float64)
    env.state[1, 2] = 0.3  # beyond 12 degrees after the step
    env.age[2] = 499
    step = env.step(torch.tensor([0, 0, 0]))
    assert step.terminated.tolist() == [False, True, False]
    assert step.truncated.tolist() == [False, False, True]
    assert env.age.tolist() == [1, 0, 0]
    assert torch.equal(step.obs[0], step.reached[0])
    assert step.reached[1, 2].abs() > 0.2 and step.obs[1].abs().max() <= 0.05
    assert step.reward.tolist() == [1, 1, 1]


def test_the_pendulum_never_terminates_and_stops_after_200_steps():
    env = Pendulum(2)
    for _ in range(199):
        step = env.step(torch.zeros(2, 1))
        assert not (step.terminated | step.truncated).any()
    step = env.step(torch.zeros(2, 1))
    assert step.truncated.all() and not step.terminated.any()


def test_equal_seeds_give_equal_runs_and_touch_no_global_state():
    before = torch.get_rng_state()
    runs = []
    for seed in (5, 5, 6):
        env = Pendulum(4, seed=seed)
        obs = env.reset()
        for _ in range(201):  # over a reset
            obs = env.step(torch.ones(4, 1)).obs
        runs.append(obs)
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert torch.equal(before, torch.get_rng_state())


def test_starts_fill_the_ranges_of_gymnasium():
    states = CartPole(20_000).state
    assert states.abs().max() <= 0.05 and states.std().item() == pytest.approx(0.1 / 12**0.5, rel=0.03)
    states = Pendulum(20_000).state
    assert states[:, 0].std().item() == pytest.approx(2 * np.pi / 12**0.5, rel=0.03)
    assert states[:, 1].std().item() == pytest.approx(2 / 12**0.5, rel=0.03)


def test_wrong_actions_are_refused_and_nothing_moves():
    env, pendulum = CartPole(2), Pendulum(2)
    state = env.state.clone()
    for action, error in [
        (torch.tensor([0, 2]), ValueError),
        (torch.tensor([0, -1]), ValueError),
        (torch.tensor([[0], [1]]), ValueError),
        (torch.tensor([0.0, 1.0]), TypeError),
    ]:
        with pytest.raises(error, match="actions must be"):
            env.step(action)
    assert torch.equal(state, env.state) and env.age.sum() == 0
    with pytest.raises(ValueError, match="finite"):
        pendulum.step(torch.tensor([[0.0], [torch.nan]]))
    with pytest.raises(ValueError, match="num_envs"):
        CartPole(0)
    with pytest.raises(ValueError, match="time_limit"):
        CartPole(1, time_limit=0)
    with pytest.raises(ValueError, match="steps"):
        collect_rollout(PPO(4, 2, discrete=True), env, env.reset(), 0)


def test_the_rollout_holds_the_value_of_what_was_reached():
    env = CartPole(4, time_limit=3)
    agent = PPO(4, 2, discrete=True)
    rollout, obs = collect_rollout(agent, env, env.reset(0), 7)
    on = ~(rollout.terminated | rollout.truncated)
    assert (~on).sum() == 8  # after steps 3 and 6, in all four
    torch.testing.assert_close(rollout.next_values[:-1][on[:-1]], rollout.values[1:][on[:-1]])
    assert not torch.isclose(rollout.next_values[2], rollout.values[3]).any()
    torch.testing.assert_close(agent.value(obs)[on[-1]], rollout.next_values[-1][on[-1]])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_gymnasiums_vector_gives_what_its_single_environments_give(asynchronous):
    env = GymnasiumVector("CartPole-v1", 2, seed=3, asynchronous=asynchronous)
    singles = [gymnasium.make("CartPole-v1") for _ in range(2)]
    obs = env.reset(3)
    for i, single in enumerate(singles):
        np.testing.assert_array_equal(obs[i], single.reset(seed=3 + i)[0])
    for _ in range(30):
        step = env.step(torch.ones(2, dtype=torch.int64))
        for i, single in enumerate(singles):
            reached, _, terminated, truncated, _ = single.step(1)
            np.testing.assert_array_equal(step.reached[i], reached)
            assert bool(step.terminated[i]) == terminated
            if terminated or truncated:
                np.testing.assert_array_equal(step.obs[i], single.reset()[0])
    env.close()


class Told(gymnasium.Env):
    """An environment of any spaces that keeps the actions it was given."""

    given: list = []

    def __init__(self, actions, observations=None):
        self.action_space = actions
        self.observation_space = observations or gymnasium.spaces.Box(0, 1, (3,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.given.append(action)
        return self.observation_space.sample(), 0.0, False, False, {}


def told(*spaces):
    gymnasium.register("Told-v0", entry_point=lambda: Told(*spaces))
    return "Told-v0"


@pytest.fixture
def unregistered():
    Told.given.clear()
    yield
    gymnasium.registry.pop("Told-v0", None)


@pytest.mark.usefixtures("unregistered")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasiums_vector_gives_actions_of_the_space():
    spaces = gymnasium.spaces
    env = GymnasiumVector(told(spaces.Discrete(3, start=5)), 2)
    env.step(torch.tensor([0, 2], dtype=torch.int32))
    assert env.action_dim == 3 and Told.given == [5, 7]
    for wrong, error in ((torch.tensor([0, 3]), ValueError), (torch.tensor([0.0, 1]), TypeError)):
        with pytest.raises(error, match="actions must be"):
            env.step(wrong)
    env = GymnasiumVector(told(spaces.Box(-1, 1, (1,), np.float32)), 1)
    env.step(torch.tensor([[3.0]], dtype=torch.float64))
    assert Told.given[-1] == 1 and Told.given[-1].dtype == np.float32
    with pytest.raises(ValueError, match="finite"):
        env.step(torch.tensor([[torch.nan]]))


BOX = gymnasium.spaces.Box(-1, 1, (3,))


@pytest.mark.usefixtures("unregistered")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("actions", "observations", "message"),
    [
        (BOX, gymnasium.spaces.Dict(x=BOX), "observations must be a Box"),
        (BOX, gymnasium.spaces.Discrete(3), "observations must be a Box"),
        (BOX, gymnasium.spaces.Box(0, 255, (4, 4), np.uint8), "observations must be a Box"),
        (gymnasium.spaces.MultiDiscrete([3, 4]), BOX, "actions must be a Discrete"),
        (gymnasium.spaces.Box(-1, 1, (2, 2)), BOX, "actions must be a Discrete"),
        (gymnasium.spaces.Box(0, 3, (2,), np.int64), BOX, "actions must be a Discrete"),
    ],
)
def test_gymnasiums_vector_refuses_spaces_that_are_no_vectors(actions, observations, message):
    with pytest.raises(ValueError, match=f"(?s){message}.*FlattenObservation"):
        GymnasiumVector(told(actions, observations), 2)


@pytest.mark.usefixtures("unregistered")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_spec_of_a_flattened_environment_is_taken_as_the_error_says():
    flat = gymnasium.wrappers.FlattenObservation(
        gymnasium.make(told(BOX, gymnasium.spaces.Discrete(4)))
    )
    env = GymnasiumVector(flat.spec, 2)
    assert env.obs_dim == 4 and env.step(torch.zeros(2, 3)).obs.sum(1).tolist() == [1, 1]


def test_first_episodes_count_once_each():
    class Fixed:
        """Pushes right: each pole falls after about nine steps."""

        def act(self, obs, deterministic):
            return torch.ones(len(obs), dtype=torch.int64), None, None

    returns = first_episode_returns(Fixed(), CartPole(50), seed=0)
    assert returns.min() >= 7 and returns.max() <= 11


def test_ppo_learns_to_balance():
    before, after = [], []
    for seed in (1, 2, 3):  # a single seed may be in one of its relapses when it is judged
        env = CartPole(64, seed=seed)
        agent = PPO(4, 2, discrete=True, lr=3e-3, epochs=4, minibatches=4,
                    anneal_updates=30, seed=seed)  # fmt: skip
        obs = env.reset()
        before.append(first_episode_returns(agent, CartPole(64), seed=9).mean().item())
        for _ in range(30):
            rollout, obs = collect_rollout(agent, env, obs, 32)
            agent.update(rollout)
        after.append(first_episode_returns(agent, CartPole(64), seed=9).mean().item())
    assert statistics.median(before) < 120 and statistics.median(after) > 250
