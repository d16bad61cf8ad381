"""Steps a second of batched environments, and the time to a stated return.

Chapter: ``122_reinforcement_learning/1c_parallel_environments`` (its recorded cell ``steps``).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dlcourse.reinforcement_learning.parallel_environments.cart_pole import CartPole
from dlcourse.reinforcement_learning.parallel_environments.collect import (
    collect_rollout,
    first_episode_returns,
)
from dlcourse.reinforcement_learning.parallel_environments.environment import (
    ParallelEnvironment,
    Transition,
)
from dlcourse.reinforcement_learning.parallel_environments.gymnasium_vector import GymnasiumVector
from dlcourse.reinforcement_learning.parallel_environments.pendulum import Pendulum
from dlcourse.reinforcement_learning.parallel_environments.ppo import PPO

__all__ = [
    "ARMS", "TASKS", "Arm", "GymnasiumArrays", "Task", "steps_per_second", "throughput",
    "time_to_return", "contest",
]  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A task in both forms, the return that counts as learned, and PPO's settings for it."""

    batched: type
    name: str
    target: float
    settings: dict[str, Any] = field(default_factory=dict)


TASKS = {
    "CartPole": Task(CartPole, "CartPole-v1", 475.0, {"lr": 3e-3, "epochs": 4}),
    "Pendulum": Task(
        Pendulum,
        "Pendulum-v1",
        -200.0,
        {"lr": 1e-3, "epochs": 5, "gamma": 0.95, "normalize_rewards": True},
    ),
}


@dataclass(frozen=True)
class Arm:
    """Where environments live, how many, and how many steps each makes between two updates."""

    kind: str  # "torch" or "gymnasium"
    device: str
    num_envs: int
    steps: int
    minibatches: int = 4

    @property
    def per_update(self) -> int:
        """Environment steps between two updates."""
        return self.num_envs * self.steps

    def environment(self, task: Task, seed: int) -> ParallelEnvironment:
        if self.kind == "torch":
            return task.batched(self.num_envs, self.device, seed=seed)
        return GymnasiumVector(task.name, self.num_envs, self.device, seed=seed)


ARMS = {
    "4,096 on the GPU": Arm("torch", "cuda", 4096, 16),
    "256 in a tensor on the CPU": Arm("torch", "cpu", 256, 32),
    "16 of Gymnasium on the CPU": Arm("gymnasium", "cpu", 16, 128),
}


class GymnasiumArrays:
    """Gymnasium's own batched form of a task, whose states are rows of a NumPy array: its speed.

    Only for `steps_per_second`. An ended episode starts anew in a step of its own, which moves
    nothing and is counted all the same: with random actions about one in 23 of CartPole's, in
    Gymnasium's favour. Observations stay float32 and share memory with its arrays.
    """

    device = torch.device("cpu")

    def __init__(self, name: str, num_envs: int, *, seed: int = 0):
        import gymnasium

        self.envs = gymnasium.make_vec(
            name, num_envs=num_envs, vectorization_mode="vector_entry_point"
        )
        self.num_envs = num_envs
        space = self.envs.single_action_space
        self.discrete = isinstance(space, gymnasium.spaces.Discrete)
        self.action_dim = int(space.n) if self.discrete else space.shape[0]
        self.obs_dim = self.envs.single_observation_space.shape[0]
        self.reset(seed)

    def reset(self, seed: int | None = None) -> Tensor:
        return torch.from_numpy(self.envs.reset(seed=seed)[0])

    def step(self, action: Tensor) -> Transition:
        obs, *rest, _ = self.envs.step(action.numpy())
        obs, reward, terminated, truncated = (torch.from_numpy(x) for x in (obs, *rest))
        return Transition(obs, obs, reward, terminated, truncated)

    def close(self) -> None:
        self.envs.close()


def synchronize(device: str | torch.device) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def steps_per_second(env: ParallelEnvironment, device: str, seconds: float) -> float:
    """Environment steps a second under random actions, over about ``seconds``; no policy."""
    g = torch.Generator(device).manual_seed(0)

    def act():
        if env.discrete:
            return torch.randint(env.action_dim, (env.num_envs,), generator=g, device=device)
        return torch.randn(env.num_envs, env.action_dim, generator=g, device=device)

    for _ in range(3):
        env.step(act())
    synchronize(device)
    start, count = time.perf_counter(), 0
    while True:
        for _ in range(10):
            env.step(act())
        count += 10 * env.num_envs
        synchronize(device)
        if (passed := time.perf_counter() - start) > seconds:
            return count / passed


def throughput(
    task: Task,
    kinds: dict[str, tuple[Callable[[Task, int], ParallelEnvironment], str, Sequence[int]]],
    seconds: float,
    rounds: int,
) -> dict[str, dict[str, list[float]]]:
    """Steps a second, ``rounds`` times in turn, for each kind and number of environments."""
    out: dict[str, dict[str, list[float]]] = {name: {} for name in kinds}
    for _ in range(rounds):
        for name, (make, device, sizes) in kinds.items():
            for n in sizes:
                env = make(task, n)
                out[name].setdefault(str(n), []).append(steps_per_second(env, device, seconds))
                getattr(env, "close", lambda: None)()
    return out


def time_to_return(
    task: Task, arm: Arm, seed: int, limit: float, judges: int = 256, pause: float = 0.2
) -> dict[str, Any]:
    """Trains until whole episodes reach the target on average, or for ``limit`` seconds.

    After an update, ``judges`` fresh environments of the batched form play one episode each by the
    policy's mean or most probable action, if ``pause`` seconds of training or more, and a tenth of
    all training so far, have passed since the last check. Judging isn't counted. So a time is known
    up to the interval between two checks, which ``curve`` tells: rows of seconds, steps, score.
    ``seconds`` and ``steps`` are None where no check within the limit found the target reached.
    """
    env = arm.environment(task, seed)
    agent = PPO(
        env.obs_dim,
        env.action_dim,
        discrete=env.discrete,
        minibatches=arm.minibatches,
        seed=seed,
        device=arm.device,
        **task.settings,
    )
    judge = task.batched(judges, arm.device, seed=10_000 + seed)
    obs, spent, taken, checked, curve = env.reset(), 0.0, 0, 0.0, []
    reached = False
    while spent < limit and not reached:
        start = time.perf_counter()
        rollout, obs = collect_rollout(agent, env, obs, arm.steps)
        agent.update(rollout)
        synchronize(arm.device)
        spent += time.perf_counter() - start
        taken += arm.per_update
        if spent < limit and spent - checked < max(pause, 0.1 * checked):
            continue
        score = first_episode_returns(agent, judge, 10_000 + seed).mean().item()
        curve.append([spent, taken, score])
        checked = spent
        reached = score >= task.target and spent <= limit
    getattr(env, "close", lambda: None)()
    return {
        "seconds": spent if reached else None,
        "steps": taken if reached else None,
        "curve": curve,
    }


def contest(
    tasks: dict[str, Task], arms: dict[str, Arm], seeds: Sequence[int], limit: float
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """`time_to_return` of each task and arm, seeds in turn; the first of each arm is a warm-up."""
    out: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for task_name, task in tasks.items():
        out[task_name] = {name: [] for name in arms}
        for arm in arms.values():  # loads kernels and grows memory before anything is timed
            time_to_return(task, arm, seed=99, limit=1e-9, judges=8)
        for seed in seeds:
            for name, arm in arms.items():
                out[task_name][name].append(time_to_return(task, arm, seed, limit))
    return out


def median_seconds(runs: Sequence[dict[str, Any]]) -> float | None:
    """Median time to the target; None if any run missed it."""
    seconds = [run["seconds"] for run in runs]
    return None if None in seconds else statistics.median(seconds)
