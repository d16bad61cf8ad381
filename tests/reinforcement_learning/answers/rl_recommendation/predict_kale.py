"""Answers to 122.2a.predict-kale."""

import math

#: upside down; no effect; satisfaction alone; sensitivity forgotten (1); per cent
WRONG = [0.784, 1.0, 1.4, 30.0, 128]
RIGHT = [1.28, 1.27, math.exp(4 * 0.58257 - 5 * 0.41743)]
