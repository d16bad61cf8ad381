"""Exercises that check themselves, quizzes, and the learner's progress.

In a notebook: ``check``, ``last_case``, ``quiz``, ``show_progress``. In a file: ``Exercise``,
``Prediction``, ``Mistake``, ``Quiz``, ``Question``, ``Choice``.

This package imports no chapter: exercises are found by their key and loaded when asked for.
"""

from dlcourse.exercises.checker import ExerciseFailed, check, last_case
from dlcourse.exercises.model import Choice, Exercise, Mistake, Prediction, Question, Quiz
from dlcourse.exercises.quizzes import quiz
from dlcourse.exercises.report import show_progress

__all__ = [
    "Choice",
    "Exercise",
    "ExerciseFailed",
    "Mistake",
    "Prediction",
    "Question",
    "Quiz",
    "check",
    "last_case",
    "quiz",
    "show_progress",
]
