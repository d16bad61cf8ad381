"""Exercises of section 121.1b."""
