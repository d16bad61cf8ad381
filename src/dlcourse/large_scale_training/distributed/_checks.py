"""Checks that the formulas of cost share."""

from __future__ import annotations


def positive(**values: float) -> None:
    """Raise ValueError, with the name, for the first number that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value!r}")
