"""Answers to 119.3.predict-resume."""

from fractions import Fraction

WRONG = [0.1, 0.02, 0, 0.011, 0.009, 1, 0.25, "0.01", 1e400, [0.01, 0.02]]
RIGHT = [0.01, Fraction(1, 100), 0.1 * 1 / 10]
