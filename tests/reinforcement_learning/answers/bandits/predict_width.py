"""Answers to 122.2b.predict-width."""

#: of 100 tries; one over 99 and no root; a root too many; the difference; per cent
WRONG = [100**-1, 1 / 99, 0.1**0.5, 0.9, 10.0]
RIGHT = [0.1, 99**-0.5, 1 / 10]
