"""Exercises and quiz of section 121.1a, one small file each."""
