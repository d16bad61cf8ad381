"""Answers to 123.1.predict-batch."""

#: the sum; the difference of the batch; per cent; the difference of deviations
WRONG = [2.0, 91.0, 100.0, 0.2]
RIGHT = [1, 1.0, 0.99]
