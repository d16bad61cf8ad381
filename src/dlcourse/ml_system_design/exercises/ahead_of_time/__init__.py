"""Exercises and quiz of section 123.2b, one small file each."""
