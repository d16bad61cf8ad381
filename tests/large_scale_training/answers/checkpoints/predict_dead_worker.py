"""Answers to 119.1b.predict-dead-worker."""

from fractions import Fraction

import torch

WRONG = [141, 139, 60, 40, 180, 145, -140, "140 steps", [140], None.__class__, 10**400]
RIGHT = [140, 140.0, torch.tensor(140), Fraction(140)]
