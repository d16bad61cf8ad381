"""Exercises and quizzes of chapter 121, one small file each."""
