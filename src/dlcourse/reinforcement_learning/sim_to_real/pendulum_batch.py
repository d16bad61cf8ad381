"""122.1b: many inverted pendulums at once, each with its own physics.

The rules are those of Gymnasium's InvertedPendulum-v5: observations (position of the cart in m,
angle in rad, and their velocities), one action in [−3, 3], two physics steps of 0.02 s for each
control step, a reward of 1 while the pole is within 0.2 rad, 1000 steps at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dlcourse.reinforcement_learning.sim_to_real import physics
from dlcourse.reinforcement_learning.sim_to_real.randomization import check_ranges, draw

FRAME_SKIP = 2
MAX_ANGLE = 0.2  # rad
MAX_STEPS = 1000
START = 0.01  # half the width of the uniform start, in m, rad, m/s and rad/s


class Step(NamedTuple):
    """One control step of all pendulums.

    ``observation`` (N, 4) starts a new episode where one ended; ``final`` (N, 4) is what the step
    itself led to, to bootstrap from where an episode was cut off (``truncated``) and did not fail
    (``terminated``).
    """

    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final: np.ndarray


def pendulum_model():
    """The MuJoCo model of InvertedPendulum-v5."""
    from pathlib import Path

    import gymnasium.envs.mujoco as family
    import mujoco

    path = Path(family.__file__).parent / "assets" / "inverted_pendulum.xml"
    return mujoco.MjModel.from_xml_path(str(path))


class PendulumBatch:
    """N inverted pendulums in ``mujoco.batch``, with physics drawn anew for each episode.

    Args:
        num: N, at least 1.
        ranges: as for ``DomainRandomization``; empty for the nominal model.
        seed: of starts, draws and sensors' errors.
        parameters: in place of ranges, one dict for each pendulum, kept over its episodes.
        nthread: threads of the physics.

    Raises:
        ValueError, TypeError: as ``DomainRandomization``; or a number of parameter sets that is
            not N, sets of different names, or ranges beside them.
    """

    def __init__(
        self,
        num: int,
        ranges: Mapping[str, Sequence[float]] | None = None,
        *,
        seed: int,
        parameters: Sequence[Mapping[str, float]] | None = None,
        nthread: int = 1,
    ) -> None:
        from mujoco.batch import Batch

        if num < 1:
            raise ValueError(f"num is 1 or more: got {num}")
        self.model = pendulum_model()
        self.ranges = check_ranges(self.model, ranges or {})
        self.fixed = None
        if parameters is not None:
            if self.ranges:
                raise ValueError("give ranges or parameters, not both")
            self.fixed = [physics.check_parameters(self.model, p) for p in parameters]
            if len(self.fixed) != num or len({tuple(sorted(p)) for p in self.fixed}) != 1:
                raise ValueError(f"parameters needs {num} dicts of the same names")
        self.num = num
        self._rng = np.random.default_rng(seed)
        self.parameters: list[dict[str, float]] = [{}] * num
        self._batch = Batch(self.model, num, nthread)
        names = self.fixed[0] if self.fixed else self.ranges
        self._fields = {
            field: self._batch.expand(field)
            for name in names
            if name not in physics.LOOP
            for field in physics.ARRAYS[name.partition(":")[0]]
        }
        self._qpos, self._qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._ctrl = self._batch.bind("ctrl")
        if self.fixed:
            longest = max(p.get("latency", 0) for p in self.fixed)
        else:
            longest = self.ranges.get("latency", (0, 0))[1]
        self._given = np.zeros((int(longest) + 1, num))  # actions by age; row 0 is the newest
        self._latency, self._noise = np.zeros(num, int), np.zeros(num)
        self._age = np.zeros(num, int)
        self._everyone = np.arange(num)
        self._start(self._everyone)

    def _start(self, ids: np.ndarray) -> None:
        """New physics and a new start for the pendulums ``ids``."""
        for i in ids:
            drawn = self.fixed[i] if self.fixed else draw(self.ranges, self._rng)
            self.parameters[i] = drawn
            self._latency[i], self._noise[i] = drawn.get("latency", 0), drawn.get("noise", 0.0)
            for field, array in physics.scaled(self.model, drawn).items():
                self._fields[field][i] = array.reshape(self._fields[field][i].shape)
        if self._fields:
            self._batch.set_const(ids)
        self._batch.reset(ids)
        self._qpos[ids] = self._rng.uniform(-START, START, (len(ids), 2))
        self._qvel[ids] = self._rng.uniform(-START, START, (len(ids), 2))
        self._batch.forward(ids)
        self._given[:, ids] = 0.0
        self._age[ids] = 0

    @property
    def state(self) -> np.ndarray:
        """Positions and velocities without the sensors' errors, (N, 4)."""
        return np.concatenate([self._qpos, self._qvel], axis=1)

    def set_state(self, state: np.ndarray) -> None:
        """Put all pendulums into the states (N, 4); what was given before is forgotten."""
        state = np.asarray(state, float)
        if state.shape != (self.num, 4) or not np.isfinite(state).all():
            raise ValueError(f"state must be finite, of shape {(self.num, 4)}")
        self._qpos[:], self._qvel[:] = state[:, :2], state[:, 2:]
        self._batch.forward()
        self._given[:] = 0.0
        self._age[:] = 0

    def observe(self) -> np.ndarray:
        """What the sensors say, (N, 4)."""
        state = self.state
        if self._noise.any():
            state = state + self._noise[:, None] * self._rng.standard_normal(state.shape)
        return state

    def step(self, actions: np.ndarray) -> Step:
        """One control step with ``actions`` (N, 1), each clipped to [−3, 3] by the model.

        Raises ValueError, before anything moves, for another shape or values not finite.
        """
        actions = np.asarray(actions, np.float32).astype(float)
        if actions.shape != (self.num, 1) or not np.isfinite(actions).all():
            raise ValueError(f"actions must be finite, of shape {(self.num, 1)}")
        self._given[1:] = self._given[:-1]
        self._given[0] = actions[:, 0]
        self._ctrl[:, 0] = self._given[self._latency, self._everyone]
        self._batch.step(nstep=FRAME_SKIP)
        self._age += 1
        state = self.state
        fallen = ~np.isfinite(state).all(1) | (np.abs(state[:, 1]) > MAX_ANGLE)
        truncated = (self._age >= MAX_STEPS) & ~fallen
        final = self.observe()
        ended = np.flatnonzero(fallen | truncated)
        observation = final
        if len(ended):
            self._start(ended)
            observation = np.array(final)
            observation[ended] = self.observe()[ended]
        return Step(observation, (~fallen).astype(float), fallen, truncated, final)
