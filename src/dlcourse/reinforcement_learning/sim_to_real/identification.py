"""122.1b: estimate a model's parameters from transitions of the real system.

Least squares on one-step predictions: start the simulator in each measured state, apply the action
that was in force, and compare with the next measured state. This is an *equation-error* method
(Ljung 1999, System Identification, section 4.2: the ARX structure): each step starts from what was
measured, so an error of the sensors enters the regressors, and much of it biases the estimate.
An output-error method would run the simulator from one start over the whole stretch.

The components err by unlike amounts, so the fit is done twice: first in units of the usual change,
then in units of the error that the first fit left in each component (weighted least squares). The
covariance of the second fit takes the errors of all components as alike, which they then are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlcourse.reinforcement_learning.sim_to_real import physics
from dlcourse.reinforcement_learning.sim_to_real.randomization import check_ranges

STEP = 1e-4  # of the central differences, in the logarithm of a factor
WEAK = 1e-4  # a direction with less than this share of the largest singular value is not seen
EXACT = 1e-6  # an error below this share of the usual change is as good as none


@dataclass(frozen=True)
class Episode:
    """One stretch of the real system without a reset.

    ``states`` (T + 1, nq + nv), in the units of the model; ``actions`` (T, nu), as they were given.
    Before the first one, no action was in force (zero).
    """

    states: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class Identified:
    """What the transitions say about the parameters.

    Attributes:
        parameters: the estimates; factors, and the latency in control steps.
        log_error: standard error of each factor's logarithm; inf where the data do not fix it.
        singular_values: of the Jacobian at the estimate, in units of the errors' deviation,
            largest first; an accuracy of 1/s along each of ``directions``.
        directions: rows are directions in the logarithms of the factors, in the order of ``names``.
        names: the factors, in order.
        residual: root mean square of the one-step error, in units of the usual one-step change,
            after the first fit.
        residual_of_latency: the same for each latency that was tried.
    """

    parameters: dict[str, float]
    log_error: dict[str, float]
    singular_values: np.ndarray
    directions: np.ndarray
    names: tuple[str, ...]
    residual: float
    residual_of_latency: dict[int, float]

    def interval(self, name: str) -> tuple[float, float]:
        """A 95 % interval of a factor: estimate · exp(∓ 1.96 standard errors)."""
        value, error = self.parameters[name], self.log_error[name]
        if math.isinf(error):
            return 0.0, math.inf
        return value * math.exp(-1.96 * error), value * math.exp(1.96 * error)


class SystemIdentifier:
    """Estimates factors of a MuJoCo model, and the latency, from real transitions.

    Args:
        model: the nominal model; it is copied and never changed.
        bounds: parameter -> (low, high), the values that are searched. Noise can't be estimated
            here; its size shows in the residual.
        frame_skip: physics steps of one control step.

    Raises:
        TypeError, ValueError: bounds as ``DomainRandomization`` refuses them; a bound on noise; no
            factor at all; equal bounds; a model whose state is not (qpos, qvel); a frame_skip
            below 1.
    """

    def __init__(
        self, model, bounds: Mapping[str, Sequence[float]], *, frame_skip: int
    ) -> None:
        import mujoco

        if not isinstance(model, mujoco.MjModel):
            raise TypeError(f"needs a mujoco.MjModel, got {model!r}")
        if model.na or model.nq != model.nv:
            raise ValueError("needs a model of hinges and slides, without actuator states")
        bounds = check_ranges(model, bounds)
        if "noise" in bounds:
            raise ValueError("noise can't be estimated from one-step means: leave it out")
        if frame_skip < 1:
            raise ValueError(f"frame_skip is 1 or more: got {frame_skip}")
        low, high = bounds.pop("latency", (0, 0))
        if not bounds or any(a == b for a, b in bounds.values()):
            raise ValueError("give at least one factor, each with low below high")
        self.latencies = range(low, high + 1)
        self.bounds, self.names = bounds, tuple(bounds)
        self.frame_skip = int(frame_skip)
        self._nominal = physics.copy_of(model)
        self._model = physics.copy_of(model)
        self._data, self._scratch = mujoco.MjData(self._model), mujoco.MjData(self._model)

    def predict_reference(self, parameters, states, actions) -> np.ndarray:
        """Next states one by one, as the equations say; slow.

        states: (T, nq + nv); actions in force: (T, nu); returns (T, nq + nv).
        """
        import mujoco

        physics.write(self._model, self._nominal, parameters, self._scratch)
        nq, rows = self._model.nq, []
        for state, action in zip(states, actions, strict=True):
            data = mujoco.MjData(self._model)
            data.qpos, data.qvel, data.ctrl = state[:nq], state[nq:], action  # s, a
            mujoco.mj_step(self._model, data, self.frame_skip)
            rows.append(np.concatenate([data.qpos, data.qvel]))  # ŝ′ = f(s, a; θ)
        return np.array(rows)

    def predict(self, parameters, states, actions) -> np.ndarray:
        """As ``predict_reference``, all transitions in one call of ``mujoco.rollout``."""
        from mujoco import rollout

        physics.write(self._model, self._nominal, parameters, self._scratch)
        time = np.zeros((len(states), 1))
        control = np.repeat(actions[:, None], self.frame_skip, axis=1)  # (T, skip, nu)
        state, _ = rollout.rollout(
            self._model, self._data, np.concatenate([time, states], axis=1), control
        )
        return state[:, -1, 1:]  # (T, skip, 1 + nq + nv) -> (T, nq + nv)

    def fit(self, episodes: Sequence[Episode]) -> Identified:
        """Estimate from episodes in two steps of weighted least squares.

        The first fit tries all latencies, and the best one is kept; the second fit weights each
        component by the error that the first one left.

        Raises ValueError for no transitions, wrong shapes, values not finite, states that never
        change, or fewer numbers than parameters.
        """
        from scipy.optimize import least_squares

        episodes = [self._checked(episode) for episode in episodes]
        if not episodes:
            raise ValueError("no episodes: give at least one")
        states = np.concatenate([e.states[:-1] for e in episodes])  # s
        nexts = np.concatenate([e.states[1:] for e in episodes])  # s′
        scale = (nexts - states).std(0)  # the usual one-step change, in each state's unit
        if not (scale > 0).all():
            raise ValueError("a state never changes in these transitions: move the system more")
        if nexts.size <= len(self.names):
            raise ValueError(f"{nexts.size} numbers can't fix {len(self.names)} factors")
        low, high = (np.log([self.bounds[n][k] for n in self.names]) for k in (0, 1))

        def residual(theta: np.ndarray, actions: np.ndarray, unit: np.ndarray) -> np.ndarray:
            parameters = dict(zip(self.names, np.exp(theta), strict=True))
            return ((self.predict(parameters, states, actions) - nexts) / unit).ravel()

        def jacobian(theta: np.ndarray, *args: np.ndarray) -> np.ndarray:
            steps = STEP * np.eye(len(theta))
            columns = [residual(theta + h, *args) - residual(theta - h, *args) for h in steps]
            return np.stack(columns, axis=1) / (2 * STEP)

        # First fit: each component in units of its usual change; all latencies.
        fits = {}
        start = np.clip(np.zeros(len(low)), low + 1e-3 * (high - low), high - 1e-3 * (high - low))
        for latency in self.latencies:
            actions = np.concatenate([delayed(e.actions, latency) for e in episodes])
            fits[latency] = least_squares(
                residual, start, jacobian, bounds=(low, high), args=(actions, scale)
            )
        size = {k: math.sqrt(2 * f.cost / nexts.size) for k, f in fits.items()}
        best = min(size, key=size.get)
        # Second fit: each component in units of its own error, so that all errors are alike.
        actions = np.concatenate([delayed(e.actions, best) for e in episodes])
        errors = fits[best].fun.reshape(nexts.shape)
        unit = scale * np.maximum(np.sqrt(np.mean(errors**2, axis=0)), EXACT)
        inner = np.clip(fits[best].x, low + 1e-6 * (high - low), high - 1e-6 * (high - low))
        fit = least_squares(residual, inner, jacobian, bounds=(low, high), args=(actions, unit))
        # Covariance σ² (JᵀJ)⁻¹ of a least-squares estimate, by the singular values of J.
        deviation = math.sqrt(2 * fit.cost / (nexts.size - len(self.names)))
        _, values, directions = np.linalg.svd(fit.jac, full_matrices=False)
        seen = values > WEAK * values[0]
        with np.errstate(divide="ignore"):
            variance = np.where(seen, (deviation / values) ** 2, 0.0) @ directions**2
        unseen = (directions[~seen] ** 2).sum(0) > WEAK
        errors = np.where(unseen, math.inf, np.sqrt(variance))
        estimates = dict(zip(self.names, np.exp(fit.x).tolist(), strict=True))
        return Identified(
            parameters={**estimates, "latency": best},
            log_error=dict(zip(self.names, errors.tolist(), strict=True)),
            singular_values=values / max(deviation, 1e-300),
            directions=directions,
            names=self.names,
            residual=size[best],
            residual_of_latency=size,
        )

    def _checked(self, episode: Episode) -> Episode:
        states, actions = np.asarray(episode.states, float), np.asarray(episode.actions, float)
        wide = self._model.nq + self._model.nv
        if states.ndim != 2 or states.shape[1] != wide or len(states) < 2:
            raise ValueError(f"states must be (T + 1, {wide}), T ≥ 1: got {states.shape}")
        if actions.shape != (len(states) - 1, self._model.nu):
            raise ValueError(
                f"actions must be {(len(states) - 1, self._model.nu)}, one fewer than the states: "
                f"got {actions.shape}"
            )
        if not (np.isfinite(states).all() and np.isfinite(actions).all()):
            raise ValueError("states and actions must be finite")
        return Episode(states, actions)


def delayed(actions: np.ndarray, latency: int) -> np.ndarray:
    """The actions in force when each is applied ``latency`` steps late: (T, nu) -> (T, nu).

    Before the first action arrives, zero is in force.
    """
    if latency < 0:
        raise ValueError(f"latency is 0 or more: got {latency}")
    out = np.zeros_like(actions)
    kept = max(len(actions) - latency, 0)
    out[len(actions) - kept :] = actions[:kept]
    return out
