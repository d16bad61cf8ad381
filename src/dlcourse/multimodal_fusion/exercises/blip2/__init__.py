"""Exercises of 121.2b."""
