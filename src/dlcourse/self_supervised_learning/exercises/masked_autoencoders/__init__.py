"""Exercises and quiz of section 120.2, one small file each."""
