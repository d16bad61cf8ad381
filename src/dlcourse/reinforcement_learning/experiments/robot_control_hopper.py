"""Hopper-v5, all seeds in one: SAC's networks batched over seeds, its update one CUDA graph."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlcourse.reinforcement_learning.robot_control.networks import Ensemble
from dlcourse.reinforcement_learning.robot_control.squashed_gaussian import (
    LOG_STD_MAX,
    LOG_STD_MIN,
    squashed_sample,
)
from dlcourse.reinforcement_learning.robot_control.training import EVALUATION_SEED, to_bounds

SETTINGS = {"hidden": 256, "batch": 256, "rate": 3e-4, "gamma": 0.99, "tau": 0.005}
WARM_UP = 5000  # environment steps a seed with uniform actions
PATIENCE = 20.0  # seconds that a step or reset of the processes may take
EPISODE = 1000  # steps of a whole episode


class SeedsOfSAC:
    """``S`` SAC agents side by side: all actors one ensemble, all ``2 S`` critics another.

    Everything, the replay memory included, lies on ``device``; ``update`` takes no argument, so
    that it can be captured. ``tests`` prove one seed of it equal to ``SAC``.
    """

    def __init__(
        self, obs_dim: int, action_dim: int, *, seeds: int, capacity: int, device: str,
        hidden: int | None = None, batch: int | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        h, self.batch = hidden or SETTINGS["hidden"], batch or SETTINGS["batch"]
        self.s, self.o, self.a, self.device = seeds, obs_dim, action_dim, device
        g = torch.Generator().manual_seed(seed)
        self.actors = Ensemble((obs_dim, h, h, 2 * action_dim), seeds, g).to(device)
        self.critics = Ensemble((obs_dim + action_dim, h, h, 1), 2 * seeds, g).to(device)
        self.targets = Ensemble((obs_dim + action_dim, h, h, 1), 2 * seeds, g).to(device)
        self.targets.load_state_dict(self.critics.state_dict())
        self.log_alpha = torch.zeros(seeds, 1, device=device, requires_grad=True)
        on_gpu = device.startswith("cuda")
        self.optimizers = [
            torch.optim.Adam([p], SETTINGS["rate"], fused=True, capturable=on_gpu)
            for p in (self.critics.flat, self.actors.flat, self.log_alpha)
        ]
        # obs | action | next_obs | reward | terminated
        self.widths = (obs_dim, action_dim, obs_dim, 1, 1)
        self.memory = torch.zeros(seeds, capacity, sum(self.widths), device=device)
        self.size = torch.zeros((), dtype=torch.float64, device=device)
        self.next = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.random: torch.Generator | None = None  # None: the device's own, which a graph knows
        self.how = "eager"

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random, device=self.device)

    def policy(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actors(obs).chunk(2, -1)  # (S, B, action_dim) each
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def q(self, net: Callable[[Tensor], Tensor], obs: Tensor, action: Tensor) -> Tensor:
        """Of both critics of each seed: ``(2 S, B)``; those of seed i are 2i and 2i + 1."""
        return net(torch.cat([obs, action], -1).repeat_interleave(2, 0)).squeeze(-1)

    def lesser(self, q: Tensor) -> Tensor:
        return q.view(self.s, 2, -1).amin(1)  # (S, B)

    @torch.no_grad()
    def act(self, obs: Tensor, deterministic: bool = False) -> Tensor:
        """``(S, n, obs_dim) -> (S, n, action_dim)``."""
        mean, log_std = self.policy(obs)
        return torch.tanh(mean if deterministic else mean + log_std.exp() * self.randn(*mean.shape))

    def add(self, rows: Tensor) -> None:
        """Store ``(S, n, width)``; the oldest are overwritten."""
        n, capacity = rows.shape[1], self.memory.shape[1]
        where = (self.next + torch.arange(n, device=rows.device)) % capacity
        self.memory[:, where] = rows
        self.next = (self.next + n) % capacity
        self.size.copy_((self.size + n).clamp_max(capacity))

    def sample(self) -> Tensor:
        """``(S, B, width)``, each seed from its own memory; no value is looked at on the host."""
        shape = self.s, self.batch
        drawn = torch.rand(shape, dtype=torch.float64, device=self.device, generator=self.random)
        chosen = (drawn * self.size).long()  # uniform on 0 … size − 1
        return self.memory.gather(1, chosen[..., None].expand(-1, -1, self.memory.shape[2]))

    def learn(self, rows: Tensor, noise: Tensor, next_noise: Tensor) -> None:
        """One update of all seeds, as ``SAC.update``; the summed losses do not mix seeds."""
        obs, action, next_obs, reward, terminated = rows.split(self.widths, -1)
        alpha = self.log_alpha.detach().exp()  # (S, 1)
        with torch.no_grad():
            next_action, log_prob = squashed_sample(*self.policy(next_obs), next_noise)
            value = self.lesser(self.q(self.targets, next_obs, next_action)) - alpha * log_prob
            y = reward[..., 0] + SETTINGS["gamma"] * (1 - terminated[..., 0]) * value  # (S, B)
        q = self.q(self.critics, obs, action)
        self._step(0, (q - y.repeat_interleave(2, 0)).square().mean(1).sum())
        new_action, log_prob = squashed_sample(*self.policy(obs), noise)
        q = self.lesser(self.q(self.critics.frozen, obs, new_action))
        self._step(1, (alpha * log_prob - q).mean(1).sum())
        gap = log_prob.detach().mean(1, keepdim=True) - self.a
        self._step(2, -(self.log_alpha * gap).sum())
        with torch.no_grad():
            self.targets.flat.lerp_(self.critics.flat, SETTINGS["tau"])

    def update(self) -> None:
        if self.graph is not None:
            self.graph.replay()
            return
        shape = (self.s, self.batch, self.a)
        noise, next_noise = self.randn(*shape), self.randn(*shape)
        self.learn(self.sample(), noise, next_noise)

    def capture(self) -> None:
        """Record ``update`` as a CUDA graph, after three real updates; nothing on a CPU.

        Where that fails, ``update`` goes on without a graph, and ``how`` says why.
        """
        if not self.device.startswith("cuda"):
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.update()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        weights = self.critics.flat.detach().clone()
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.update()
            graph.replay()
            if bool((self.critics.flat == weights).all()):
                raise RuntimeError("the graph changes no weight")
            self.graph, self.how = graph, "graph"
        except RuntimeError as error:
            self.how = f"eager, no graph: {str(error).splitlines()[0][:100]}"
            # The device's own generator may still believe that it is being captured.
            self.random = torch.Generator(self.device).manual_seed(1)

    def _step(self, k: int, loss: Tensor) -> None:
        optimizer = self.optimizers[k]
        p = optimizer.param_groups[0]["params"][0]
        (p.grad,) = torch.autograd.grad(loss, p)
        optimizer.step()


def hopper(
    *, seeds: int = 3, copies: int = 5, seconds: float = 130.0, evaluate_every: int = 20_000,
    episodes: int = 5, task: str = "Hopper-v5", hidden: int | None = None,
    batch: int | None = None, warm_up: int = WARM_UP, max_steps: int = 1_000_000,
    device: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train until the time is up; one update an environment step, while the physics runs.

    Returns steps a seed, returns at each evaluation ``[evaluation][seed][episode]``, and speeds.
    ``seconds`` holds for all of it: the start, the capture and the last evaluation, for which
    time is kept. An error in the middle ends the run, not the record: ``stopped`` names it.
    """
    import gymnasium as gym
    from gymnasium.vector import AsyncVectorEnv, AutoresetMode

    began = time.monotonic()
    torch.manual_seed(0)
    at: list[int] = []
    returns: list[list[list[float]]] = []
    clock: list[float] = []
    steps, updates, started, stopped = 0, 0, began, "at the end of the time"
    with contextlib.ExitStack() as stack:

        def processes(n: int) -> Any:
            made = AsyncVectorEnv(
                [lambda: gym.make(task)] * n, autoreset_mode=AutoresetMode.SAME_STEP
            )
            stack.callback(made.close, terminate=True)  # whatever happens, none is left behind
            return made

        # The processes are forked first: none of them inherits a CUDA context.
        env, tests = processes(seeds * copies), processes(seeds * episodes)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        space = env.single_action_space
        o, a = env.single_observation_space.shape[0], space.shape[0]
        agents = SeedsOfSAC(
            o, a, seeds=seeds, capacity=max_steps, device=device, hidden=hidden, batch=batch
        )
        rng = np.random.default_rng(0)

        def to_device(x: np.ndarray, n: int) -> Tensor:
            return torch.as_tensor(x, dtype=torch.float32).view(seeds, n, -1).to(device)

        def reset(which: Any, seed: int) -> np.ndarray:
            which.reset_async(seed=seed)
            return which.reset_wait(timeout=PATIENCE)[0]

        def measure() -> float:
            """Evaluate; seconds that an evaluation of full length takes, as far as one can see."""
            first = time.monotonic()
            obs, ticks = reset(tests, EVALUATION_SEED), 0
            total, alive = np.zeros(seeds * episodes), np.ones(seeds * episodes, bool)
            while alive.any():
                action = agents.act(to_device(obs, episodes), True).cpu().numpy().reshape(-1, a)
                tests.step_async(to_bounds(action, space.low, space.high))
                obs, reward, terminated, truncated, _ = tests.step_wait(timeout=PATIENCE)
                total += reward * alive
                alive &= ~(terminated | truncated)
                ticks += 1
            at.append(steps)
            returns.append(total.reshape(seeds, episodes).tolist())
            clock.append(time.monotonic() - began)
            spent = time.monotonic() - first
            # The first evaluation is short and holds what is slow only once.
            return min(max(spent, 1.2 * spent / ticks * EPISODE), seconds / 8)

        try:
            obs = reset(env, 0)
            kept = measure()
            started = time.monotonic()
            while steps < max_steps and time.monotonic() - began < seconds - kept:
                if steps // evaluate_every > at[-1] // evaluate_every:
                    kept = measure()
                if steps < warm_up:
                    action = rng.uniform(-1, 1, (seeds * copies, a)).astype(np.float32)
                else:
                    action = agents.act(to_device(obs, copies)).cpu().numpy().reshape(-1, a)
                if steps >= warm_up and updates == 0:
                    agents.capture()
                env.step_async(to_bounds(action, space.low, space.high))
                if steps >= warm_up:
                    for _ in range(copies):
                        agents.update()
                    updates += copies
                next_obs, reward, terminated, truncated, info = env.step_wait(timeout=PATIENCE)
                last = next_obs.copy()
                for i in np.flatnonzero(terminated | truncated):
                    last[i] = info["final_obs"][i]
                rows = np.concatenate(
                    [obs, action, last, reward[:, None], terminated[:, None]], 1,
                    dtype=np.float64,
                )  # fmt: skip
                agents.add(to_device(rows, copies))
                obs, steps = next_obs, steps + copies
            spent = time.monotonic() - started
            if at[-1] < steps:
                measure()
        except (RuntimeError, ValueError, OSError, multiprocessing.TimeoutError) as error:
            if not returns:
                raise  # nothing was learned: there is no record
            stopped = f"{type(error).__name__}: {str(error)[:200]}"
            spent = time.monotonic() - started
    if not all(math.isfinite(x) for one in returns for row in one for x in row):
        raise RuntimeError("a return is not finite")
    return {
        "task": task, "steps": at, "returns": returns, "clock": clock, "updates": updates,
        "environment steps per second": seeds * steps / spent, "seeds": seeds, "copies": copies,
        "how": agents.how, "stopped": stopped,
    }  # fmt: skip
