"""Exercises of 122.2a."""
