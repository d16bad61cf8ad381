"""Answers to 121.1a.predict-pairs."""

from fractions import Fraction

JOINT, SPLIT = 1968**2, 404**2 + 1572**2
#: cross-attention both ways; upside down; one attention for both; the square root; per cent
WRONG = [JOINT / (2 * 400 * 1568), SPLIT / JOINT, JOINT / 1972**2, (JOINT / SPLIT) ** 0.5, 147]
RIGHT = [1.47, JOINT / SPLIT, 1.5, Fraction(JOINT, SPLIT)]
