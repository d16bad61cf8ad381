"""Exercises and quiz of section 119.1c, one small file each."""
