"""122.1b: how far a simulator is from the real system, for one policy, in numbers without units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import numpy as np


@dataclass(frozen=True)
class Gap:
    """The gap between a simulator and a real system.

    Attributes:
        sim_returns, real_returns: (episodes,), with the same seeds.
        return_gap: (mean sim − mean real) / |mean sim|: the share of the promised return that is
            lost. Below 0 where the real system does better.
        by_state: (nq + nv,) root mean square of s′_real − s′_sim after the same state and action,
            divided by the standard deviation of the real one-step change of that component. 0 is
            a perfect simulator; 1 is as bad as predicting the mean change.
        dynamics_gap: root mean square over the components.
        transitions: how many real steps were compared.
    """

    sim_returns: np.ndarray
    real_returns: np.ndarray
    return_gap: float
    by_state: np.ndarray
    dynamics_gap: float
    transitions: int


def _state(env: gym.Env) -> np.ndarray:
    data = env.unwrapped.data
    return np.concatenate([data.qpos, data.qvel])


def sim_to_real_gap(
    policy: Callable[[np.ndarray], np.ndarray],
    sim: gym.Env,
    real: gym.Env,
    *,
    episodes: int = 5,
    seed: int,
) -> Gap:
    """Gap of return and gap of dynamics of ``policy`` between ``sim`` and ``real``.

    Args:
        policy: observation -> action, deterministic.
        sim, real: MuJoCo environments of the same state and action; either may be wrapped by
            ``DomainRandomization``, with its latency.
        episodes: run in each, with the seeds seed, seed + 1, …

    The dynamics are compared on the real transitions (s, a, s′): the simulator is put into s, gets
    the same action through its own loop, and says where it goes. Never s against s: a state of the
    real system has no counterpart in the simulator but itself.

    Raises:
        TypeError: an environment without a MuJoCo state.
        ValueError: different sizes of state or action; no episodes; a state that never changes; a
            mean return of the simulator of 0.
    """
    for env in (sim, real):
        if not isinstance(env, gym.Env) or not hasattr(env.unwrapped, "set_state"):
            raise TypeError(f"needs a MuJoCo environment of Gymnasium, got {env!r}")
    sizes = [(e.unwrapped.model.nq, e.unwrapped.model.nv, e.action_space.shape) for e in (sim, real)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"sim and real differ in (nq, nv, actions): {sizes[0]} and {sizes[1]}")
    if episodes < 1:
        raise ValueError(f"episodes is 1 or more: got {episodes}")
    nq = sizes[0][0]
    returns: dict[str, list[float]] = {"sim": [], "real": []}
    trips = []
    for k in range(episodes):
        for name, env in (("sim", sim), ("real", real)):
            observation, _ = env.reset(seed=seed + k)
            total, over = 0.0, False
            states, actions = [_state(env)], []
            while not over:
                action = np.array(policy(observation))  # a copy: a policy may reuse its array
                observation, reward, terminated, truncated, _ = env.step(action)
                total, over = total + float(reward), terminated or truncated
                states.append(_state(env))
                actions.append(action)
            returns[name].append(total)
        trips.append((np.array(states), actions))  # of the real system, which ran last
    errors, changes = [], []
    for k, (states, actions) in enumerate(trips):
        sim.reset(seed=seed + k)
        for s, action, s_next in zip(states[:-1], actions, states[1:], strict=True):
            sim.unwrapped.set_state(s[:nq], s[nq:])
            sim.step(action)  # the simulator's latency sees the same stream of actions
            errors.append(s_next - _state(sim))
            changes.append(s_next - s)
    scale = np.std(changes, axis=0)
    if not (scale > 0).all():
        raise ValueError("a state never changes in the real episodes: the gap has no unit")
    by_state = np.sqrt(np.mean(np.square(errors), axis=0)) / scale
    sim_returns, real_returns = np.array(returns["sim"]), np.array(returns["real"])
    promised = sim_returns.mean()
    if promised == 0:
        raise ValueError("the simulator's mean return is 0: a share of it means nothing")
    return Gap(
        sim_returns=sim_returns,
        real_returns=real_returns,
        return_gap=float((promised - real_returns.mean()) / abs(promised)),
        by_state=by_state,
        dynamics_gap=float(np.sqrt(np.mean(by_state**2))),
        transitions=len(errors),
    )
