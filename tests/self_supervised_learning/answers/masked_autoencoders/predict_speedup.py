"""Answers to 120.2.predict-speedup."""

import torch

WRONG = [2.4, 2.34, 4, 4.06, 1.33, 0.42, 3, "2.37", [2.37], 2.37j]
RIGHT = [2.37, 2.36, 2.38, torch.tensor(2.37)]
