"""Answers to 121.1b.predict-frames."""

import torch

WRONG = [500, 498, 490, 49, 501, 1001, 1, -499, "499 frames"]
RIGHT = [499, 499.0, torch.tensor(499)]
