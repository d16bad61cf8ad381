"""Answers to 121.2a.predict-floor."""

import math

import torch

WRONG = [1.0, 6.5, 5.0, 0.31, math.inf, -5.93, torch.tensor(6.2), [5.93]]
RIGHT = [5.93, 6, 5.9332, torch.tensor(5.93), math.log(1 + 1023 / math.e)]
