"""Exercises and quizzes of chapter 120, one small file each."""
