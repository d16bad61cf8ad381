"""Exercises and quiz of section 123.3, one small file each."""
