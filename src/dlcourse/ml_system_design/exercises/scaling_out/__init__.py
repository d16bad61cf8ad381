"""Exercises and quiz of section 123.2c, one small file each."""
