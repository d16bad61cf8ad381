"""Exercises and quiz of section 124.1a, one small file each."""
