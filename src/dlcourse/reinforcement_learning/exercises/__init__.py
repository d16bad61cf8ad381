"""Exercises and quizzes of chapter 122, one small file each."""
