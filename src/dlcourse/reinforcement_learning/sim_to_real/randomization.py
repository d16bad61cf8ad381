"""122.1b: a Gymnasium wrapper that draws new physics at each reset.

Domain randomisation: Tobin et al. (2017) for pictures; Peng et al. (2018) for dynamics.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from dlcourse.reinforcement_learning.sim_to_real import physics


class DomainRandomization(gym.Wrapper):
    """Draws masses, friction, damping, gear, latency and noise anew at each reset.

    Args:
        env: an environment of Gymnasium's MuJoCo family, with a Box of actions.
        ranges: parameter -> (low, high). Names are those of ``sim_to_real.physics``, such as
            ``"mass:pole"``, ``"gear"``, ``"latency"``. Factors are drawn log-uniformly (a half is
            as likely as a double), the latency uniformly from the whole numbers low … high,
            the noise uniformly.
        seed: of all draws. ``reset(seed=s)`` starts the draws anew from (seed, s).
        observation_scale: one unit of each observation, (obs,); the sensors' error is ``noise``
            units. All ones by default.

    ``reset(options={"parameters": {…}})`` sets the named parameters and draws the others.
    ``parameters`` and ``info["parameters"]`` of a reset tell what was drawn. With a latency of k
    control steps, the action applied at step t is the one given at t − k; before, the zero action
    (or the one of the space nearest to it). ``close`` or ``restore`` gives the model its own
    numbers back, bit by bit. A copy (``copy.deepcopy``, ``pickle``) has the same physics and draws
    on alike; its simulation stands at its start, as Gymnasium's copies do.

    Raises:
        TypeError: not a MuJoCo environment; actions or observations that are no Box; a value that
            is no number.
        ValueError: an unknown name, a range upside down, out of bounds or not finite; two names
            for one element; a seed below 0; an environment that is already randomised.
    """

    def __init__(
        self,
        env: gym.Env,
        ranges: Mapping[str, Sequence[float]],
        *,
        seed: int,
        observation_scale: Sequence[float] | None = None,
    ) -> None:
        import mujoco

        if not isinstance(env, gym.Env) or not isinstance(
            getattr(env.unwrapped, "model", None), mujoco.MjModel
        ):
            raise TypeError(f"needs a MuJoCo environment of Gymnasium, got {env!r}")
        for name, space in (
            ("actions", env.action_space), ("observations", env.observation_space)
        ):  # fmt: skip
            if not isinstance(space, gym.spaces.Box):
                raise TypeError(f"needs a Box of {name}, got {space}")
        inner = env
        while isinstance(inner, gym.Wrapper):
            if isinstance(inner, DomainRandomization):
                raise ValueError("the environment is randomised already: give all ranges to one")
            inner = inner.env
        model = env.unwrapped.model
        self.ranges = check_ranges(model, ranges)
        shape = env.observation_space.shape
        scale = np.ones(shape) if observation_scale is None else np.asarray(observation_scale)
        if scale.shape != shape or not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError(f"observation_scale must be finite, above 0, of shape {shape}")
        self._seed = _checked_seed(seed)
        super().__init__(env)
        self._scale = scale
        self._nominal = physics.copy_of(model)
        self._start_draws(self._seed)
        zero = np.zeros(env.action_space.shape, env.action_space.dtype)
        self._idle = np.clip(zero, env.action_space.low, env.action_space.high)
        self._queue: deque[np.ndarray] = deque()
        self.parameters: dict[str, float] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Of a copy. Gymnasium makes most environments anew from their arguments: a nominal model.
        self.__dict__.update(state)
        physics.write(self.env.unwrapped.model, self._nominal, self.parameters)

    def _start_draws(self, *seed: int) -> None:
        drawn, sensed = np.random.SeedSequence(seed).spawn(2)
        self._draws, self._errors = np.random.default_rng(drawn), np.random.default_rng(sensed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Draw the physics, then reset. Raises as the constructor for ``options["parameters"]``."""
        options = dict(options or {})
        model = self.env.unwrapped.model
        fixed = physics.check_parameters(model, options.pop("parameters", {}))
        physics.check_names(model, {**self.ranges, **fixed})
        if seed is not None:
            self._start_draws(self._seed, _checked_seed(seed))
        self.parameters = {**draw(self.ranges, self._draws), **fixed}
        physics.write(model, self._nominal, self.parameters)
        self._queue = deque([self._idle] * int(self.parameters.get("latency", 0)))
        observation, info = self.env.reset(seed=seed, options=options or None)
        return self._sense(observation), {**info, "parameters": dict(self.parameters)}

    def step(self, action):
        """One control step with the action that was given ``latency`` steps ago.

        Raises ValueError, before anything moves, for an action of another shape or not finite.
        """
        action = np.array(action, self._idle.dtype)
        if action.shape != self._idle.shape or not np.isfinite(action).all():
            raise ValueError(f"an action is finite, of shape {self._idle.shape}: got {action}")
        self._queue.append(action)
        observation, *rest = self.env.step(self._queue.popleft())
        return self._sense(observation), *rest

    def _sense(self, observation: np.ndarray) -> np.ndarray:
        noise = self.parameters.get("noise", 0.0)
        if noise == 0.0:
            return observation
        error = noise * self._scale * self._errors.standard_normal(observation.shape)
        return (observation + error).astype(observation.dtype)

    def restore(self) -> None:
        """Give the model its own numbers back."""
        physics.restore(self.env.unwrapped.model, self._nominal)
        self.parameters = {}
        self._queue = deque()

    def close(self) -> None:
        """Restore the model, then close the environment."""
        self.restore()
        self.env.close()


def _checked_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"a seed is a whole number from 0 on, got {seed!r}")
    return int(seed)


def check_ranges(model, ranges: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Ranges checked, as a new dict. Raises TypeError and ValueError as DomainRandomization does."""
    if not isinstance(ranges, Mapping):
        raise TypeError(f"ranges is a dict of name: (low, high), got {ranges!r}")
    physics.check_names(model, ranges)
    checked = {}
    for name, span in ranges.items():
        if isinstance(span, str) or not hasattr(span, "__len__") or len(span) != 2:
            raise ValueError(f"the range of {name} must be (low, high), got {span!r}")
        low, high = (physics.check_value(name, value) for value in span)
        if low > high:
            raise ValueError(f"the range of {name} is upside down: {low} > {high}")
        checked[name] = (low, high)
    return checked


def draw(
    ranges: Mapping[str, tuple[float, float]], generator: np.random.Generator
) -> dict[str, float]:
    """One draw of each parameter: factors log-uniform, latency in whole steps, noise uniform."""
    drawn: dict[str, float] = {}
    for name, (low, high) in ranges.items():
        if name == "latency":
            drawn[name] = int(generator.integers(low, high + 1))
        elif name == "noise":
            drawn[name] = float(generator.uniform(low, high))
        else:
            value = math.exp(generator.uniform(math.log(low), math.log(high)))
            drawn[name] = min(max(value, low), high)  # exp and log may round past the ends
    return drawn


def widened(
    ranges: Mapping[str, tuple[float, float]], width: float
) -> dict[str, tuple[float, float]]:
    """Ranges of another width: factors as powers, low^w … high^w; latency and noise times w.

    Width 0 is the nominal model, 1 the ranges as given. Raises ValueError for a width below 0.
    """
    if not (math.isfinite(width) and width >= 0):
        raise ValueError(f"the width must be finite, 0 or more: got {width}")
    out = {}
    for name, (low, high) in ranges.items():
        if name == "latency":
            out[name] = (round(low * width), round(high * width))
        elif name == "noise":
            out[name] = (low * width, high * width)
        else:
            out[name] = (low**width, high**width)
    return out
