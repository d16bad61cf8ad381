"""SAC beside stable-baselines3's on Reacher-v5; TD3 beside DDPG on Pendulum-v1."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlcourse.reinforcement_learning.robot_control.agent import OffPolicyAgent
from dlcourse.reinforcement_learning.robot_control.overestimation import q_against_return
from dlcourse.reinforcement_learning.robot_control.peers import StableBaselinesSAC
from dlcourse.reinforcement_learning.robot_control.replay import ReplayBuffer
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


def new_peer(seed: int, capacity: int, hidden: int, batch: int) -> StableBaselinesSAC:
    """stable-baselines3's SAC with the same settings."""
    return StableBaselinesSAC(
        make(), hidden=(hidden, hidden), lr=SETTINGS["rate"], gamma=SETTINGS["gamma"],
        tau=SETTINGS["tau"], batch_size=batch, learning_starts=SETTINGS["warm-up"],
        capacity=capacity, seed=seed,
    )  # fmt: skip


def run_peer(seed: int, steps: int, every: int) -> dict:
    """The same training by stable-baselines3's SAC."""
    peer = new_peer(seed, steps + 1, SETTINGS["hidden"], SETTINGS["batch"])
    eval_env, seconds, returns = make(), 0.0, []

    def measure() -> None:
        found = evaluate(peer, eval_env, SETTINGS["episodes"], seed=EVALUATION_SEED)
        returns.append(float(found.mean()))

    measure()
    for _ in range(steps // every):
        began = time.process_time()
        peer.learn(every)
        seconds += time.process_time() - began
        measure()
    return {"returns": returns, "seconds": seconds}


def updates_at(hidden: int, batch: int, rounds: int, updates: int) -> dict[str, list[float]]:
    """Milliseconds of CPU time an update, drawing the batch included, in turn: ours, theirs."""
    agent = SAC(10, 2, hidden=(hidden, hidden), lr=SETTINGS["rate"])
    buffer, rng = ReplayBuffer(1000, 10, 2), np.random.default_rng(0)
    peer = new_peer(0, 1000, hidden, batch)
    for _ in range(1000):
        obs, next_obs, action = rng.normal(size=10), rng.normal(size=10), rng.uniform(-1, 1, 2)
        buffer.add(obs, action, rng.normal(), next_obs, False, False)
        peer.add(obs, action, rng.normal(), next_obs, False)

    def ours() -> None:
        for _ in range(updates):
            agent.update(buffer.sample(batch))

    found: dict[str, list[float]] = {"ours": [], "peer": []}
    for k in range(rounds + 1):  # the first does not count
        for name, run in (("ours", ours), ("peer", lambda: peer.update(updates))):
            began = time.process_time()
            run()
            if k:
                found[name].append(1000 * (time.process_time() - began) / updates)
    return found


def contest(
    *, seeds: Sequence[int], steps: int, every: int, longer: int = 15_000, updates: int = 60,
    wide: tuple[int, int] = (256, 256),
) -> dict[str, Any]:  # fmt: skip
    """SAC and stable-baselines3's, in turn for each seed; returns with the actions' noise off.

    ``longer``: steps of one more training of ours, of the first seed, whose arm is shown at five
    points. ``wide``: width and batch of a second comparison of single updates; the peer's own.
    """
    run_ours(SAC, 99, 2 * SETTINGS["batch"], 2 * SETTINGS["batch"])  # what is slow only once
    run_peer(99, 2 * SETTINGS["batch"], 2 * SETTINGS["batch"])
    ours, peer = [], []
    for k, seed in enumerate(seeds):
        for who in (0, 1) if k % 2 == 0 else (1, 0):
            if who:
                peer.append(run_peer(seed, steps, every))
            else:
                ours.append(run_ours(SAC, seed, steps, every))
    shown = run_ours(SAC, seeds[0], longer, longer // 5)
    return {
        "steps": list(range(0, steps + 1, every)),
        "ms an update": {
            str(width): updates_at(width, batch, 5, updates)
            for width, batch in ((SETTINGS["hidden"], SETTINGS["batch"]), wide)
        },
        "returns": {
            "ours": [run["returns"] for run in ours], "peer": [run["returns"] for run in peer]
        },
        "steps per CPU second": {
            "ours": [steps / run["seconds"] for run in ours],
            "peer": [steps / run["seconds"] for run in peer],
        },
        "paths": shown["paths"],
        "longer": {"steps": [int(k) for k in shown["paths"]], "returns": shown["returns"]},
    }  # fmt: skip


WAYS: dict[str, dict[str, Any]] = {
    "twin": {},  # TD3
    "single": {"num_critics": 1, "target_noise": 0.0, "policy_delay": 1},  # DDPG
}
# γ^200 = 0.018 of a return lies beyond the limit. With the usual tau of 0.005 a critic needs about
# 1/(tau (1 − γ)) = 10,000 updates to forget its start at 0, which lies above all returns here.
PENDULUM = {"gamma": 0.98, "limit": 250, "tau": 0.05}


def critics_contest(
    *, seeds: Sequence[int], steps: int, every: int, episodes: int = 6
) -> dict[str, Any]:
    """TD3 and DDPG (one critic, nothing smoothed) on Pendulum-v1: Q against what follows."""
    import gymnasium as gym

    found: dict[str, Any] = {"steps": list(range(every, steps + 1, every))}
    width = SETTINGS["hidden"]
    for name, way in WAYS.items():
        returns, bias, beliefs = [], [], []
        for seed in seeds:
            agent = TD3(
                3, 1, hidden=(width, width), gamma=PENDULUM["gamma"], tau=PENDULUM["tau"],
                lr=SETTINGS["rate"], seed=seed, **way,
            )  # fmt: skip
            seen: list[Any] = []

            def measure(step: int, agent: TD3 = agent, seen: list[Any] = seen) -> None:
                if step:
                    long = gym.make("Pendulum-v1", max_episode_steps=PENDULUM["limit"])
                    seen.append(q_against_return(agent, long, episodes, seed=EVALUATION_SEED))

            history = train(
                agent, gym.make("Pendulum-v1"), steps, seed, batch_size=SETTINGS["batch"],
                learning_starts=SETTINGS["warm-up"], eval_env=gym.make("Pendulum-v1"),
                eval_every=every, eval_episodes=episodes, progress=False, on_evaluation=measure,
            )  # fmt: skip
            returns.append([float(r.mean()) for _, r in history.evaluations[1:]])
            bias.append([float((b.q - b.returned).mean()) for b in seen])
            beliefs.append(seen[-1])
        found[name] = {
            "returns": returns,
            "bias": bias,
            "q": [[round(float(x), 3) for x in b.q[::5]] for b in beliefs],
            "returned": [[round(float(x), 3) for x in b.returned[::5]] for b in beliefs],
        }
    return found
