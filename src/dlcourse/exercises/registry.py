"""Find exercises and quizzes by key; a chapter's files are loaded when one is asked for."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field

from dlcourse.exercises.model import DIFFICULTIES, Exercise, Prediction, Quiz

#: Chapter number -> the package that holds its exercises, one small file each.
CHAPTERS = {
    "119": "dlcourse.large_scale_training.exercises",
    "120": "dlcourse.self_supervised_learning.exercises",
}


class RegistryError(LookupError):
    """No such exercise or quiz, or a chapter's exercise files contradict each other."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the message alone."""
        return [str(self)]


@dataclass
class Chapter:
    """What the files of one chapter define."""

    exercises: dict[str, Exercise | Prediction] = field(default_factory=dict)
    quizzes: dict[str, Quiz] = field(default_factory=dict)


@functools.cache
def load_chapter(number: str) -> Chapter:
    """Import a chapter's exercise files and collect their ``EXERCISE`` or ``QUIZ``.

    Raises:
        RegistryError: an unknown chapter; a file that defines neither; a key that is defined
            twice or belongs to another chapter.
    """
    if number not in CHAPTERS:
        raise RegistryError(f"no chapter {number!r}; there are: {', '.join(CHAPTERS)}")
    package = importlib.import_module(CHAPTERS[number])
    modules = [
        importlib.import_module(f"{package.__name__}.{info.name}")
        for info in pkgutil.iter_modules(package.__path__)
    ]
    return collect(number, modules)


def collect(number: str, modules: list) -> Chapter:
    """Put what ``modules`` define into one ``Chapter``; errors as in ``load_chapter``."""
    chapter, origin = Chapter(), {}
    for module in modules:
        item = getattr(module, "EXERCISE", None) or getattr(module, "QUIZ", None)
        if item is None:
            raise RegistryError(f"{module.__name__} defines neither EXERCISE nor QUIZ")
        if item.key.split(".")[0] != number:
            raise RegistryError(f"{module.__name__}: key {item.key!r} is not of chapter {number}")
        if item.key in origin:
            raise RegistryError(
                f"key {item.key!r} is defined twice: {origin[item.key]} and {module.__name__}"
            )
        origin[item.key] = module.__name__
        (chapter.quizzes if isinstance(item, Quiz) else chapter.exercises)[item.key] = item
    return chapter


def find_exercise(key: str) -> Exercise | Prediction:
    """The exercise of this key.

    Raises:
        RegistryError: no such exercise; the message names the nearest keys.
    """
    return _find(key, "exercise", "exercises")


def find_quiz(key: str) -> Quiz:
    """The quiz of this section.

    Raises:
        RegistryError: no such quiz; the message names those there are.
    """
    return _find(key, "quiz", "quizzes")


def _find(key: str, kind: str, table: str):
    if not isinstance(key, str):
        raise TypeError(f"the key of an {kind} is a string such as '119.2.lion', not {key!r}")
    number = key.split(".")[0]
    known = getattr(load_chapter(number), table) if number in CHAPTERS else {}
    if key not in known:
        near = difflib.get_close_matches(key, known, n=3) or sorted(known)
        there_are = ", ".join(near) or "chapters " + ", ".join(CHAPTERS)
        raise RegistryError(f"no {kind} {key!r}; perhaps: {there_are}")
    return known[key]


def order(key: str) -> tuple:
    """Of exercises and quizzes; sorts 119.1 before 119.1b before 119.2 before 119.10."""
    chapter, section, *name = key.split(".")
    letter = section.lstrip("0123456789")
    return int(chapter), int(section.removesuffix(letter)), letter, name


def all_exercises() -> Iterator[Exercise | Prediction]:
    """Every exercise of every chapter: by section, easy ones first."""
    found = [e for number in CHAPTERS for e in load_chapter(number).exercises.values()]
    yield from sorted(
        found,
        key=lambda e: (order(e.key)[:3], DIFFICULTIES.index(e.difficulty), e.key),
    )


def all_quizzes() -> Iterator[Quiz]:
    """Every quiz of every chapter, by section."""
    found = [q for number in CHAPTERS for q in load_chapter(number).quizzes.values()]
    yield from sorted(found, key=lambda quiz: order(quiz.key))
