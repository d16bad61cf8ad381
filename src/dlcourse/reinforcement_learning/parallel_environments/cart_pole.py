"""A pole on a cart, pushed left or right, in N copies. Chapter 122, section 1c.

Barto, Sutton, Anderson, "Neuronlike adaptive elements that can solve difficult learning control
problems", IEEE Transactions on Systems, Man, and Cybernetics, 1983. The constants and the end are
those of Gymnasium's CartPole-v1.
"""

import math

import torch
from torch import Tensor

from dlcourse.reinforcement_learning.parallel_environments.environment import TensorEnvironment


class CartPole(TensorEnvironment):
    """Balance a pole by pushing its cart with −10 or +10 N; reward 1 a step, at most 500 steps.

    The state is what is seen, (N, 4): place x (m), speed ẋ (m/s), angle θ from upright (rad), its
    speed θ̇ (rad/s). The episode terminates beyond 2.4 m or 12°. Actions (N,): 0 is left, 1 right.
    """

    obs_dim, action_dim, discrete, time_limit = 4, 2, True, 500
    GRAVITY, CART, POLE, HALF, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02  # m/s², kg, kg, m, N, s
    FARTHEST, STEEPEST = 2.4, 12 * 2 * math.pi / 360

    def _start(self) -> Tensor:
        return 0.05 * self._uniform(4)

    def _move(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, dx, theta, dtheta = state.unbind(1)  # (N,) each
        force = self.FORCE * (2 * action.to(self.dtype) - 1)
        sin, cos = theta.sin(), theta.cos()
        total = self.CART + self.POLE
        # The equations of motion, solved for the two accelerations.
        pushed = (force + self.POLE * self.HALF * dtheta.square() * sin) / total
        ddtheta = (self.GRAVITY * sin - cos * pushed) / (
            self.HALF * (4 / 3 - self.POLE * cos.square() / total)
        )
        ddx = pushed - self.POLE * self.HALF * ddtheta * cos / total
        # Euler's method: the old speeds move the places.
        state = torch.stack(
            [x + self.TAU * dx, dx + self.TAU * ddx, theta + self.TAU * dtheta,
             dtheta + self.TAU * ddtheta], 1
        )  # fmt: skip
        terminated = (state[:, 0].abs() > self.FARTHEST) | (state[:, 2].abs() > self.STEEPEST)
        return state, torch.ones_like(x), terminated

    def _observe(self, state: Tensor) -> Tensor:
        return state
