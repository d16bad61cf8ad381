"""Answers to 122.1a.predict-limit."""

#: the truth; the finite sum; the limit itself halved twice; upside down
WRONG = [100, 63.4, 25, 1 / 50.25]
RIGHT = [50.25, 1 / (1 - 0.99 * 0.99), 50]
