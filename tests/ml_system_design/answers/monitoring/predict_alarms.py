"""Answers to 123.3.predict-alarms."""

#: half; one less; Bonferroni's whole; per cent; one test silent
WRONG = [0.5, 1 - 0.95**10, 0.0488, 64.15, 0.95]
RIGHT = [0.6415, 1 - 0.95**20, 0.64]
