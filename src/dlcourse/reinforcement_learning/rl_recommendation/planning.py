"""122.2a: the exact answer, by dynamic programming over exposure."""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Plan:
    """values (T + 1, G), best (T, G): expected minutes to come and item, on the grid (G,)."""

    grid: np.ndarray
    values: np.ndarray
    best: np.ndarray

    @property
    def start(self):
        """Expected minutes of a session from exposure 0."""
        return float(np.interp(0.0, self.grid, self.values[0]))

    def act(self, time, exposure):
        """Return the best items for exposures (U,) at a time, by the nearest grid point."""
        z = np.asarray(exposure)
        nearest = np.rint((z - self.grid[0]) / (self.grid[1] - self.grid[0])).astype(int)
        return torch.as_tensor(self.best[time][nearest.clip(0, len(self.grid) - 1)])


def optimal_values(
    user, clickbait=(0.0, 0.25, 0.5, 0.75, 1.0), *, points=801, only=None, discount=1.0
):
    """Solve V_t(z) = max_c E e(z, c) + discount E V_{t+1}(z') backwards (Bellman, 1957).

    The expectation over the innovation is Gauss-Hermite quadrature with 5 points; between grid
    points V is linear. `only` is one item, whose fixed policy is evaluated in place of the best.
    Drift, boredom and position make the state larger than one number, and raise ValueError.
    """
    if user.drift or user.boredom or user.position:
        raise ValueError("with drift, boredom or position the state is not exposure alone")
    scores = torch.as_tensor(clickbait, dtype=torch.float64)
    if points < 3:
        raise ValueError(f"points must be at least 3, got {points}")
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must lie in [0, 1], got {discount}")
    if only is not None and not 0 <= only < len(scores):
        raise IndexError(f"item {only} does not exist: there are {len(scores)}")
    reach = 1 / (1 - user.memory) + 6 * user.innovation / (1 - user.memory**2) ** 0.5
    grid = np.linspace(-reach, reach, points)
    z = torch.from_numpy(grid)[:, None]  # (G, 1)
    now = user.expected_engagement(z, scores).numpy()  # (G, A)
    later = user.next_exposure(z, scores).numpy()  # (G, A)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weights = weights / weights.sum()
    values = np.zeros((user.horizon + 1, points))
    best = np.zeros((user.horizon, points), dtype=np.int64)
    for t in reversed(range(user.horizon)):
        q = now.copy()
        for x, w in zip(nodes, weights, strict=True):
            q += discount * w * np.interp(later + user.innovation * x, grid, values[t + 1])
        best[t] = q.argmax(1) if only is None else only
        values[t] = q[np.arange(points), best[t]]
    return Plan(grid, values, best)
