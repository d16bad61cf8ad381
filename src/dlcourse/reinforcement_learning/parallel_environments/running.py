"""Running mean and variance, for observations and returns. Chapter 122, section 1c."""

import torch
from torch import Tensor, nn


class RunningMoments(nn.Module):
    """Mean and variance of all rows seen so far, merged batch by batch; saved with the module.

    Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American Statistician,
    1983: two sets of n_a and n_b rows with means and sums of squares (m_a, M_a), (m_b, M_b) have
    m = m_a + d n_b/n and M = M_a + M_b + d² n_a n_b/n, where d = m_b − m_a and n = n_a + n_b.
    Sums are kept in float64: with a million rows a batch, float32 would lose the small ones.
    """

    def __init__(self, size: int, clip: float = 10.0):
        super().__init__()
        self.clip = clip
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))

    @property
    def variance(self) -> Tensor:
        """(size,): 1 before anything was seen."""
        seen = self.squares / self.count.clamp_min(1)
        return torch.where(self.count > 0, seen, torch.ones_like(seen))

    @torch.no_grad()
    def add(self, rows: Tensor) -> None:
        """Takes in rows (n, size)."""
        rows = rows.to(torch.float64)
        mean = rows.mean(0)
        squares = (rows - mean).square().sum(0)
        n_a, n_b = self.count, len(rows)
        n = n_a + n_b
        d = mean - self.mean
        self.squares += squares + d.square() * n_a * n_b / n
        self.mean += d * n_b / n
        self.count += n_b

    def forward(self, x: Tensor) -> Tensor:
        """(x − mean) / standard deviation, clipped to ±``clip``; (..., size) in and out."""
        mean, scale = self.mean.to(x.dtype), (self.variance + 1e-8).sqrt().to(x.dtype)
        return ((x - mean) / scale).clamp(-self.clip, self.clip)
