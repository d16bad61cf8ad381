"""Exercises and quiz of section 122.1b, one small file each."""
