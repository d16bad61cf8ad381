"""Exercises and quizzes of chapter 123, one small file each."""
