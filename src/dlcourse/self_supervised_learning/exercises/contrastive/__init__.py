"""Exercises and quiz of section 120.1a, one small file each."""
