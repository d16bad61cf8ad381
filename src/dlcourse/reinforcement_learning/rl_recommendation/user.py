"""122.2a: one user, in the equations of RecSim's Choc/Kale model (Ie et al., 2019)."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class UserModel:
    """A user whose satisfaction s follows what was shown.

    An item has a clickbait score c in [0, 1]. With exposure z (no unit), engagement e (minutes):

        s = sigmoid(sensitivity * z)
        e ~ LogNormal(s * (choc c + kale (1 - c)), 1)
        z' = memory * z + (1 - 2 c) + Normal(0, innovation)

    `drift` is the standard deviation a step of a random walk of the user's taste, added to the
    mean of log e times (2 c - 1). `boredom` is taken from that mean when an item equals the one
    before; `position` is taken from it once for each place below the first.
    """

    sensitivity: float = 0.01
    memory: float = 0.7
    innovation: float = 0.05
    choc: float = 5.0
    kale: float = 4.0
    horizon: int = 60
    drift: float = 0.0
    boredom: float = 0.0
    position: float = 0.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if self.memory >= 1:
            raise ValueError(f"memory must be below 1, got {self.memory}: exposure would not fade")
        if int(self.horizon) != self.horizon or self.horizon < 1:
            raise ValueError(f"horizon must be a whole number from 1, got {self.horizon}")

    def satisfaction(self, z):
        """Return satisfaction in (0, 1), of the shape of z."""
        return torch.sigmoid(self.sensitivity * z)

    def log_engagement(self, z, c):
        """Return the mean of log engagement for exposure z and clickbait c (broadcast)."""
        return self.satisfaction(z) * (self.choc * c + self.kale * (1 - c))

    def expected_engagement(self, z, c):
        """Return the mean engagement in minutes: exp(mean + 1/2) of a lognormal."""
        return torch.exp(self.log_engagement(z, c) + 0.5)

    def next_exposure(self, z, c):
        """Return the mean of the next exposure."""
        return self.memory * z + 1 - 2 * c
