"""Exercises and quiz of section 120.1b, one small file each."""
