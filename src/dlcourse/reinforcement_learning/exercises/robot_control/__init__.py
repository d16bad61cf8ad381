"""Exercises and quiz of section 122.1a, one small file each."""
