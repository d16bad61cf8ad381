"""Exercises and quiz of section 122.1c, one small file each."""
