"""Exercises and quiz of section 119.1b, one small file each."""
