"""A pendulum to be swung up by a motor that is too weak, in N copies. Chapter 122, section 1c.

The equations and constants are those of Gymnasium's Pendulum-v1 (g = 10 m/s²).
"""

import math

import torch
from torch import Tensor

from dlcourse.reinforcement_learning.parallel_environments.environment import TensorEnvironment


class Pendulum(TensorEnvironment):
    """Swing a rod of 1 m and 1 kg up and hold it there, with a torque of at most 2 N·m.

    State (N, 2): angle θ from upright (rad), speed θ̇ (rad/s). Seen (N, 3): cos θ, sin θ, θ̇.
    Actions (N, 1): torque u (N·m), clipped to ±2. Reward −(θ² + 0.1 θ̇² + 0.001 u²) of the state
    before the step, θ between −π and π. It never terminates; the time limit is 200 steps.
    """

    obs_dim, action_dim, discrete, time_limit = 3, 1, False, 200
    GRAVITY, MASS, LENGTH, TAU = 10.0, 1.0, 1.0, 0.05  # m/s², kg, m, s
    FASTEST, STRONGEST = 8.0, 2.0  # rad/s, N·m

    def _start(self) -> Tensor:
        limits = torch.tensor([math.pi, 1.0], dtype=self.dtype, device=self.device)
        return limits * self._uniform(2)

    def _move(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        theta, dtheta = state.unbind(1)  # (N,) each
        u = action[:, 0].to(self.dtype).clamp(-self.STRONGEST, self.STRONGEST)
        angle = (theta + math.pi).remainder(2 * math.pi) - math.pi
        reward = -(angle.square() + 0.1 * dtheta.square() + 0.001 * u.square())
        ddtheta = (
            3 * self.GRAVITY / (2 * self.LENGTH) * theta.sin()
            + 3 / (self.MASS * self.LENGTH**2) * u
        )
        dtheta = (dtheta + self.TAU * ddtheta).clamp(-self.FASTEST, self.FASTEST)
        theta = theta + self.TAU * dtheta  # the new speed moves the angle: symplectic Euler
        return (
            torch.stack([theta, dtheta], 1),
            reward,
            torch.zeros_like(theta, dtype=torch.bool),
        )

    def _observe(self, state: Tensor) -> Tensor:
        theta, dtheta = state.unbind(1)
        return torch.stack([theta.cos(), theta.sin(), dtheta], 1)
