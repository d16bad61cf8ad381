"""Collect, learn, evaluate (section 122.1a)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .agent import OffPolicyAgent
from .replay import ReplayBuffer


EVALUATION_SEED = 10_000  # starts of evaluation episodes; train with smaller seeds


class History(NamedTuple):
    """What a training run saw."""

    episodes: list[tuple[int, float]]  # (environment step at its end, return while exploring)
    evaluations: list[tuple[int, np.ndarray]]  # (environment step, returns without exploration)
    buffer: ReplayBuffer
    seconds: float  # CPU seconds of this process, without the evaluations


def to_bounds(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Scale actions from [−1, 1] to an environment's bounds, in the dtype of the bounds.

    Raises ValueError for an action outside [−1, 1] or not finite, and for bounds that are not
    finite.
    """
    action = np.asarray(action, dtype=np.float64)
    if not np.all(np.abs(action) <= 1 + 1e-6):  # NaN fails as well
        raise ValueError("an action is outside [-1, 1] or NaN: nothing was done")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("the action space has no finite bounds: wrap it in RescaleAction first")
    dtype = np.result_type(low, high)
    part = (np.clip(action, -1, 1) + 1) / 2
    # Not low + part (high - low), which may overflow. Rounded in float64, kept inside, then cast.
    scaled = np.clip((1 - part) * low + part * high, low, high)
    return scaled.astype(dtype if np.issubdtype(dtype, np.floating) else np.float64)


def bounds_of(space: Any) -> tuple[np.ndarray, np.ndarray]:
    """Low and high of a space of actions. Raises ValueError where actions are no real numbers."""
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    if low is None or high is None or not np.issubdtype(space.dtype, np.floating):
        raise ValueError(f"SAC and TD3 need a Box of real actions, the environment has {space}")
    return low, high


def evaluate(agent: OffPolicyAgent, env: Any, episodes: int = 10, *, seed: int) -> np.ndarray:
    """Undiscounted returns of whole episodes without exploration, ``(episodes,)``.

    Args:
        env: a single ``gymnasium.Env``, not the one that trains: its episode would be cut.
        seed: of the first episode's start; the k-th begins from ``seed + k``.

    Raises ValueError for no episodes, and for an environment whose actions are no real numbers.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    low, high = bounds_of(env.action_space)
    returns = np.zeros(episodes)
    for k in range(episodes):
        obs, _ = env.reset(seed=seed + k)
        over = False
        while not over:
            action = to_bounds(agent.act(obs, deterministic=True), low, high)
            obs, reward, terminated, truncated, _ = env.step(action)
            returns[k] += reward
            over = terminated or truncated
    return returns


def train(
    agent: OffPolicyAgent,
    env: Any,
    steps: int,
    seed: int,
    *,
    buffer: ReplayBuffer | None = None,
    learning_starts: int = 1000,
    batch_size: int = 256,
    updates_per_step: int = 1,
    eval_env: Any = None,
    eval_every: int = 1000,
    eval_episodes: int = 10,
    on_evaluation: Callable[[int], None] | None = None,
    progress: bool = True,
) -> History:
    """Train an agent for ``steps`` environment steps.

    Args:
        agent: ``SAC`` or ``TD3``; has the environment's dimensions.
        env: a ``gymnasium.Env``, or a vector of n of them, whose step counts as n steps. Both of
            Gymnasium's ways to reset a vector are known (next step, same step).
        steps: environment steps, of all copies together.
        seed: of the environment and of the uniform actions before ``learning_starts``.
        buffer: where transitions go; by default a new one that forgets nothing. To train on with
            one, give it room for both trainings, and ``learning_starts=1``.
        learning_starts: steps with uniform actions, before the first update.
        batch_size: transitions an update. updates_per_step: updates an environment step.
        eval_env: where ``evaluate`` runs at step 0 and after each ``eval_every`` steps, or None.
        on_evaluation: called with the step after each evaluation.
        progress: show step, speed and last return, rewritten on standard error.

    Raises ValueError for dimensions that do not fit or counts out of range, before the first step.
    """
    n = getattr(env, "num_envs", 1)
    vector = hasattr(env, "single_action_space")
    space = env.single_action_space if vector else env.action_space
    observed = env.single_observation_space if vector else env.observation_space
    low, high = bounds_of(space)
    if observed.shape != (agent.obs_dim,) or space.shape != (agent.action_dim,):
        raise ValueError(
            f"the environment has observations {observed.shape} and actions {space.shape}, the "
            f"agent ({agent.obs_dim},) and ({agent.action_dim},)"
        )
    for name, count in (
        ("steps", steps), ("batch_size", batch_size), ("learning_starts", learning_starts),
        ("eval_every", eval_every),
    ):  # fmt: skip
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    if updates_per_step < 0:
        raise ValueError(f"updates_per_step must be 0 or more, got {updates_per_step}")
    to_bounds(np.zeros(space.shape), low, high)  # finite bounds, or an error now
    same_step = vector and _resets_in_the_same_step(env)
    if eval_env is env:
        raise ValueError("eval_env must be another environment: evaluating would cut an episode")
    if buffer is None:  # an empty one is false, too
        buffer = ReplayBuffer(steps + n, agent.obs_dim, agent.action_dim, seed=seed)
    if (buffer.obs_dim, buffer.action_dim) != (agent.obs_dim, agent.action_dim):
        raise ValueError(
            f"the buffer has obs_dim {buffer.obs_dim} and action_dim {buffer.action_dim}, the "
            f"environment {agent.obs_dim} and {agent.action_dim}"
        )
    rng = np.random.default_rng(seed)
    episodes: list[tuple[int, float]] = []
    evaluations: list[tuple[int, np.ndarray]] = []
    began, paused = time.process_time(), 0.0
    display = _Display(steps) if progress else None

    def measure(step: int) -> None:
        nonlocal paused
        if eval_env is not None:
            stopped = time.process_time()
            returns = evaluate(agent, eval_env, eval_episodes, seed=EVALUATION_SEED)
            evaluations.append((step, returns))
            if on_evaluation:
                on_evaluation(step)
            paused += time.process_time() - stopped

    obs, _ = env.reset(seed=seed)
    returns, resetting = np.zeros(n), np.zeros(n, dtype=bool)
    measure(0)
    for step in range(n, steps + n, n):
        if step <= learning_starts:
            action = rng.uniform(-1, 1, (n, *space.shape) if vector else space.shape)
        else:
            action = agent.act(obs)
        next_obs, reward, terminated, truncated, info = env.step(to_bounds(action, low, high))
        over = np.logical_or(terminated, truncated)
        last_obs = next_obs
        if same_step and over.any():  # the observation returned is already the next episode's
            last_obs = next_obs.copy()
            for i in np.flatnonzero(over):
                last_obs[i] = info["final_obs"][i]
        if not vector:
            buffer.add(obs, action, reward, last_obs, terminated, truncated)
        elif not resetting.all():  # with a next-step reset, this step took no action there
            real = ~resetting
            buffer.add(obs[real], action[real], reward[real], last_obs[real], terminated[real],
                       truncated[real])  # fmt: skip
        returns += np.where(resetting, 0.0, reward)
        for i in np.flatnonzero(np.atleast_1d(over)):
            episodes.append((step, float(returns[i])))
            returns[i] = 0.0
        obs = next_obs
        if vector and not same_step:
            resetting = np.asarray(over)
        if not vector and over:
            obs, _ = env.reset()
        if step > learning_starts:
            for _ in range(n * updates_per_step):
                agent.update(buffer.sample(batch_size))
        if step // eval_every > (step - n) // eval_every:
            measure(step)
        if display:
            display(step, episodes)
    if display:
        display.close()
    seconds = time.process_time() - began - paused
    return History(episodes, evaluations, buffer, seconds)


def _resets_in_the_same_step(env: Any) -> bool:
    from gymnasium.vector import AutoresetMode

    given = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    try:
        mode = AutoresetMode(given)  # a member, or its value such as "SameStep"
    except ValueError:
        known = [mode.value for mode in AutoresetMode]
        raise ValueError(f"the environment's autoreset_mode {given!r} is none of {known}") from None
    if mode == AutoresetMode.DISABLED:
        raise ValueError("the vector environment never resets: choose an autoreset_mode")
    return mode == AutoresetMode.SAME_STEP


class _Display:
    """One line on standard error, rewritten at most four times a second."""

    def __init__(self, steps: int) -> None:
        self.steps, self.began, self.shown = steps, time.monotonic(), 0.0

    def __call__(self, step: int, episodes: list[tuple[int, float]]) -> None:
        now = time.monotonic()
        if now - self.shown < 0.25 and step < self.steps:
            return
        self.shown = now
        last = f", last return {episodes[-1][1]:.1f}" if episodes else ""
        speed = step / max(now - self.began, 1e-9)
        print(f"\rstep {step} of {self.steps}, {speed:.0f} a second{last}   ",
              end="", file=sys.stderr, flush=True)  # fmt: skip

    def close(self) -> None:
        print(file=sys.stderr)
