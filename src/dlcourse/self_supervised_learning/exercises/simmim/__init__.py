"""Exercises and quiz of section 120.1c, one small file each."""
