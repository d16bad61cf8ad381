"""Answers to 123.2c.predict-cache."""

WRONG = [2048.0, 23.0, 45.0, 7.0, 0.022, 46603.0, 88.0]
RIGHT = [22.0, 22]
