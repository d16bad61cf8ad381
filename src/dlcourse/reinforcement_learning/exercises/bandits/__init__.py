"""Exercises and quiz of section 122.2b, one small file each."""
