"""Answers to 123.2a.predict-wait."""

#: M/M/1 with service; the number inside with itself; ρ alone; in s; ρ / (1 − ρ)² / 2
WRONG = [10.0, 4.95, 0.9, 0.0045, 45.0]
RIGHT = [4.5, 0.9 / 0.2, 9 / 2]
