"""Exercises and quiz of section 119.3, one small file each."""
