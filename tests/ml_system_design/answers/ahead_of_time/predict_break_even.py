"""Answers to 123.2b.predict-break-even."""

#: both times of a request added; with minutes; of eager in s; one request too few by a factor
WRONG = [20 / 0.0035, 40_000 / 60, 20 / 0.5, 20.0]
RIGHT = [40_000.0, 20 / (0.002 - 0.0015), 40_001]
