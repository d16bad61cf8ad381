"""Answers to 120.1a.predict-collapse."""

import math

import torch

WRONG = [math.log(16), math.log(8), math.log(14), 2.74, 2.67, 1.354, -math.log(15), "log(15)", 0]
RIGHT = [math.log(15), 2.7, 2.71, torch.tensor(15.0).log()]
