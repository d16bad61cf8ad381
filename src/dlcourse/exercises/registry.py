"""Find exercises and quizzes by key.

One small file each: ``119.2.lion`` lies in ``large_scale_training/exercises/optimizers/lion.py``,
the quiz of 119.2 beside it in ``quiz.py``. The file's name is the last part of the key, its folder
the stem of the section. Nothing is listed by hand, and asking for one loads no other.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dlcourse.chapters import chapter_folder, chapters, missing_library
from dlcourse.exercises import renumbered
from dlcourse.exercises.model import DIFFICULTIES, Exercise, Prediction, Quiz

# A file's key is read from its text: loading all files to find one would load all of torch.
_KEY = re.compile(r'^    key="([^"]+)",$', re.MULTILINE)


class RegistryError(LookupError):
    """No such exercise or quiz, or a chapter's exercise files contradict each other."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the message alone."""
        return [str(self)]


@functools.cache
def modules(number: str) -> dict[str, str]:
    """The module of each exercise and quiz of a chapter, by key, without importing any.

    Raises:
        RegistryError: an unknown chapter; a file without a key, or whose key is of another chapter,
            is defined twice, or is not what the file's name says.
    """
    try:
        folder = chapter_folder(number) / "exercises"
    except LookupError as error:
        raise RegistryError(str(error)) from None
    texts = {
        f"{folder.parent.name}.exercises.{file.parent.name}.{file.stem}": file.read_text("utf8")
        for file in sorted(folder.glob("*/*.py"))
        if file.name != "__init__.py"
    }
    return {key: f"dlcourse.{name}" for key, name in collect(number, texts).items()}


def collect(number: str, texts: dict[str, str]) -> dict[str, str]:
    """The names of ``texts`` (of modules, by name) by the key that each has; errors as above."""
    found: dict[str, str] = {}
    for name, text in texts.items():
        match = _KEY.search(text)
        if match is None:
            raise RegistryError(f'{name} defines neither EXERCISE nor QUIZ with a line key="…",')
        key = match[1]
        chapter, _, rest = key.partition(".")
        if chapter != number:
            raise RegistryError(f"{name}: key {key!r} is not of chapter {number}")
        if key in found:
            raise RegistryError(f"key {key!r} is defined twice: {found[key]} and {name}")
        wanted = rest.partition(".")[2].replace("-", "_") or "quiz"
        if name.rpartition(".")[2] != wanted:
            raise RegistryError(f"{name}: the file of the key {key!r} is called {wanted}.py")
        found[key] = name
    return found


def load(key: str) -> Exercise | Prediction | Quiz:
    """Import what a key names.

    Raises:
        RegistryError: no such key, or its file defines something else.
        ModuleNotFoundError: a library of the chapter is missing; the message says how to get it.
    """
    name = modules(key.partition(".")[0])[key]
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing_library(error, name) from error
    item = getattr(module, "EXERCISE", None) or getattr(module, "QUIZ", None)
    if item is None or item.key != key:
        raise RegistryError(f"{name} does not define {key!r} as its EXERCISE or QUIZ")
    return item


def find_exercise(key: str) -> Exercise | Prediction:
    """The exercise of this key; a key from before sections were renumbered is taken too.

    Raises:
        RegistryError: no such exercise; the message names the nearest keys.
    """
    if isinstance(key, str):
        key = renumbered.EXERCISES.get(key, key)
    return _find(key, "exercise")


def find_quiz(key: str) -> Quiz:
    """The quiz of this section.

    Raises:
        RegistryError: no such quiz; the message names those there are.
    """
    return _find(key, "quiz")


def _find(key: str, kind: str):
    if not isinstance(key, str):
        raise TypeError(f"the key of an {kind} is a string such as '119.2.lion', not {key!r}")
    number = key.split(".")[0]
    known = keys(kind, number) if number in chapters() else []
    if key not in known:
        near = difflib.get_close_matches(key, known, n=3) or known
        there_are = ", ".join(near) or "chapters " + ", ".join(chapters())
        raise RegistryError(f"no {kind} {key!r}; perhaps: {there_are}")
    return load(key)


def keys(kind: str, number: str | None = None) -> list[str]:
    """The keys of all exercises (``kind`` "exercise") or quizzes ("quiz"), by section."""
    parts = {"exercise": 3, "quiz": 2}[kind]
    numbers = chapters() if number is None else (number,)
    found = (key for n in numbers for key in modules(n) if len(key.split(".")) == parts)
    return sorted(found, key=order)


def order(key: str) -> tuple:
    """Of exercises and quizzes; sorts 119.1a before 119.1c before 119.2 before 119.10."""
    chapter, section, *name = key.split(".")
    letter = section.lstrip("0123456789")
    return int(chapter), int(section.removesuffix(letter)), letter, name


@dataclass(frozen=True)
class Unavailable:
    """An exercise or quiz that can't be loaded here, and why (a library is missing)."""

    key: str
    reason: str


def _all(kind: str) -> Iterator[Exercise | Prediction | Quiz | Unavailable]:
    """What can be loaded, and in place of all else why it can't be: no chapter stops another."""
    for key in keys(kind):
        try:
            yield load(key)
        except ModuleNotFoundError as error:
            yield Unavailable(key, str(error))
        except Exception as error:  # a library that is there, and broken
            yield Unavailable(key, f"it can't be loaded: {type(error).__name__}: {error}")


def all_exercises() -> Iterator[Exercise | Prediction]:
    """Every exercise that can be loaded here: by section, easy ones first."""
    found = [e for e in _all("exercise") if not isinstance(e, Unavailable)]
    yield from sorted(
        found,
        key=lambda e: (order(e.key)[:3], DIFFICULTIES.index(e.difficulty), e.key),
    )


def all_quizzes() -> Iterator[Quiz]:
    """Every quiz that can be loaded here, by section."""
    yield from (q for q in _all("quiz") if not isinstance(q, Unavailable))


def unavailable() -> list[Unavailable]:
    """The exercises and quizzes that can't be loaded here."""
    return [i for kind in ("exercise", "quiz") for i in _all(kind) if isinstance(i, Unavailable)]
