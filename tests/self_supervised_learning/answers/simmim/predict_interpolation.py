"""Answers to 120.1c.predict-interpolation."""

from fractions import Fraction

WRONG = [8, 9, 16, 1.5, 12, 34 / 6, 72.25, -8.5, "8.5", None.__class__, 8.6]
RIGHT = [8.5, Fraction(17, 2), 8.45]
