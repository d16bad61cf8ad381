"""Answers to 122.1b.predict-draw."""

#: uniform in the factor; a third; both ends' ratio; above 1; natural logarithm of 2
WRONG = [0.067, 1 / 3, 1 / 16, 0.75, 0.693]
RIGHT = [0.25, 1 / 4, 0.251]
