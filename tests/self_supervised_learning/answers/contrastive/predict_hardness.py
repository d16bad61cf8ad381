"""Answers to 120.1a.predict-hardness."""

import math

import numpy as np

WRONG = [4, 1.8, 0.018, 40, 58, 51, math.exp(0.4), "e^4", float("inf"), np.array([54.6, 54.6])]
RIGHT = [54.6, 55, math.exp(4), np.exp(np.float32(4)), np.array(54.0)]
