"""Exercises and quiz of section 121.2a, one small file each."""
