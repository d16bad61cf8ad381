"""Exercises and quiz of section 123.1, one small file each."""
