"""Reacher-v5 in minutes: SAC beside stable-baselines3's, TD3 with one critic and with two."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlcourse.reinforcement_learning.robot_control.agent import OffPolicyAgent
from dlcourse.reinforcement_learning.robot_control.overestimation import q_against_return
from dlcourse.reinforcement_learning.robot_control.sac import SAC
from dlcourse.reinforcement_learning.robot_control.td3 import TD3
from dlcourse.reinforcement_learning.robot_control.training import (
    EVALUATION_SEED,
    evaluate,
    to_bounds,
    train,
)

TASK = "Reacher-v5"
SETTINGS = {
    "hidden": 64, "batch": 128, "rate": 1e-3, "gamma": 0.99, "tau": 0.005, "warm-up": 500,
    "episodes": 20,
}  # fmt: skip
SHOWN_SEED = EVALUATION_SEED + 3  # the episode that is drawn


def make(**more: Any) -> Any:
    """The task, with its own time limit of 50 steps or another (``max_episode_steps``)."""
    import gymnasium as gym

    return gym.make(TASK, **more)


def new_agent(kind: type[SAC] | type[TD3], seed: int, **more: Any) -> Any:
    """An agent with the settings that all share."""
    return kind(
        10, 2, hidden=(SETTINGS["hidden"],) * 2, gamma=SETTINGS["gamma"], tau=SETTINGS["tau"],
        lr=SETTINGS["rate"], seed=seed, **more,
    )  # fmt: skip


def arm_path(agent: Any, seed: int = SHOWN_SEED) -> list[list[float]]:
    """An episode to draw: the two angles (rad) and the target's place (m) at each step."""
    env = make()
    obs, _ = env.reset(seed=seed)
    path, over = [], False
    while not over:
        angles = np.arctan2(obs[2:4], obs[0:2])
        path.append([round(float(x), 3) for x in (*angles, *obs[4:6])])
        action = to_bounds(agent.act(obs, True), env.action_space.low, env.action_space.high)
        obs, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
    return path


def run_ours(kind: type[SAC] | type[TD3], seed: int, steps: int, every: int, **more: Any) -> dict:
    """One training: mean returns, CPU seconds, paths of the arm, and the agent."""
    agent, paths = new_agent(kind, seed, **more), {}
    history = train(
        agent, make(), steps, seed, learning_starts=SETTINGS["warm-up"],
        batch_size=SETTINGS["batch"], eval_env=make(), eval_every=every,
        eval_episodes=SETTINGS["episodes"], progress=False,
        on_evaluation=lambda step: paths.update({str(step): arm_path(agent)}),
    )  # fmt: skip
    returns = [float(found.mean()) for _, found in history.evaluations]
    return {"returns": returns, "seconds": history.seconds, "paths": paths, "agent": agent}


class _Peer:
    """What ``evaluate`` asks of an agent, from a model of stable-baselines3."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def act(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        return self.model.predict(obs, deterministic=deterministic)[0]


def run_peer(seed: int, steps: int, every: int) -> dict:
    """The same by stable-baselines3's SAC, with the same settings."""
    from stable_baselines3 import SAC as Peer

    width = SETTINGS["hidden"]
    model = Peer(
        "MlpPolicy", make(), learning_rate=SETTINGS["rate"], buffer_size=steps + 1,
        learning_starts=SETTINGS["warm-up"], batch_size=SETTINGS["batch"], tau=SETTINGS["tau"],
        gamma=SETTINGS["gamma"], policy_kwargs={"net_arch": [width, width]}, seed=seed,
        device="cpu",
    )  # fmt: skip
    eval_env, seconds, returns = make(), 0.0, []

    def measure() -> None:
        found = evaluate(_Peer(model), eval_env, SETTINGS["episodes"], seed=EVALUATION_SEED)
        returns.append(float(found.mean()))

    measure()
    for _ in range(steps // every):
        began = time.process_time()
        model.learn(every, reset_num_timesteps=False)
        seconds += time.process_time() - began
        measure()
    return {"returns": returns, "seconds": seconds}


def contest(*, seeds: Sequence[int], steps: int, every: int) -> dict[str, Any]:
    """SAC and stable-baselines3's, in turn for each seed; returns with the actions' noise off."""
    run_ours(SAC, 99, 2 * SETTINGS["batch"], 2 * SETTINGS["batch"])  # what is slow only once
    run_peer(99, 2 * SETTINGS["batch"], 2 * SETTINGS["batch"])
    ours, peer = [], []
    for k, seed in enumerate(seeds):
        for who in (0, 1) if k % 2 == 0 else (1, 0):
            if who:
                peer.append(run_peer(seed, steps, every))
            else:
                ours.append(run_ours(SAC, seed, steps, every))
    return {
        "steps": list(range(0, steps + 1, every)),
        "returns": {
            "ours": [run["returns"] for run in ours], "peer": [run["returns"] for run in peer]
        },
        "steps per CPU second": {
            "ours": [steps / run["seconds"] for run in ours],
            "peer": [steps / run["seconds"] for run in peer],
        },
        "paths": ours[0]["paths"],
    }  # fmt: skip


def critics_contest(*, seeds: Sequence[int], steps: int, every: int) -> dict[str, Any]:
    """TD3 with two critics and with one: returns, and Q against the return that follows."""
    found: dict[str, Any] = {"steps": list(range(0, steps + 1, every))}
    for name, number in (("twin", 2), ("single", 1)):
        runs, beliefs = [], []
        for seed in seeds:
            run = run_ours(TD3, seed, steps, every, num_critics=number)
            runs.append(run)
            long = make(max_episode_steps=450)  # γ^400 = 0.018 of a return lies beyond
            beliefs.append(q_against_return(run["agent"], long, 6, seed=EVALUATION_SEED))
        found[name] = {
            "returns": [run["returns"] for run in runs],
            "bias": [float((b.q - b.returned).mean()) for b in beliefs],
            "q": [[round(float(x), 3) for x in b.q[::5]] for b in beliefs],
            "returned": [[round(float(x), 3) for x in b.returned[::5]] for b in beliefs],
        }
    return found
