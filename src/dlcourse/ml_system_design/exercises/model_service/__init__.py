"""Exercises and quiz of section 123.2a, one small file each."""
