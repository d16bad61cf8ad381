"""Exercises and quiz of section 119.1a, one small file each."""
