"""Answers to 119.1c.predict-loss-scale."""

import numpy as np
import torch

WRONG = [8191, 8193, 2**64, 0, 2048, 131072, True, "8192", np.array([8192]), float("nan")]
RIGHT = [8192, 2.0**13, 65536 // 8, np.int64(8192), torch.tensor(8192.0)]
