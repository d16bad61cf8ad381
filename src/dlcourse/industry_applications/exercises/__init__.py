"""Exercises and quizzes of chapter 124, one small file each."""
