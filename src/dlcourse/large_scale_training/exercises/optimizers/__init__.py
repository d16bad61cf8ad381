"""Exercises and quiz of section 119.2, one small file each."""
