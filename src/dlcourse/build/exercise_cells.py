"""Cells of exercises and quizzes, made from the files that define them.

A chapter's source has one Markdown cell a piece, with ``{{exercise 119.2.lion}}`` or
``{{quiz 119.2}}`` in it and nothing else. ``expand`` puts the cells there: statement, stub, check
and (tagged ``solution``, so that the learner's notebook has none) the solution. A prediction also
gets the run that shows the answer, which waits until something was predicted.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from dlcourse.exercises.model import Exercise, Prediction
from dlcourse.exercises.registry import find_exercise, find_quiz

MARKER = re.compile(r"\{\{\s*(exercise|quiz)\s+([\w.-]+)\s*\}\}")
SOLUTION_TAG = "solution"


class MarkerError(ValueError):
    """A marker stands in a cell with other text, where it can't be expanded."""


def expand(cells: Sequence[Any]) -> list[Any]:
    """Replace each marker cell by the cells that it names; leave all others as they are.

    Raises:
        MarkerError: a marker that does not have a Markdown cell of its own.
        RegistryError: no such exercise or quiz.
    """
    expanded = []
    for cell in cells:
        marker = MARKER.search(cell["source"]) if cell["cell_type"] == "markdown" else None
        if marker is None:
            expanded.append(cell)
        elif marker.group(0) != cell["source"].strip():
            raise MarkerError(f"{marker.group(0)} needs a Markdown cell of its own")
        else:
            kind, key = marker.groups()
            made = exercise_cells(key) if kind == "exercise" else [quiz_cell(key)]
            for new in made:  # what holds for the marker (``skip`` on slides) holds for all of them
                tags = [*new["metadata"].get("tags", []), *cell["metadata"].get("tags", [])]
                if tags:
                    new["metadata"]["tags"] = tags
            expanded += made
    return expanded


def exercise_cells(key: str) -> list[Any]:
    """Statement, stub, check, the run of a prediction, and the solution, as notebook cells."""
    exercise = find_exercise(key)
    cells = [
        _markdown(statement_markdown(exercise), key, "statement"),
        _code(stub_source(exercise), key, "stub"),
        _code(check_source(exercise), key, "check"),
    ]
    if isinstance(exercise, Prediction):
        cells.append(_code(run_source(exercise), key, "run"))
    return [*cells, solution_cell(key)]


def solution_cell(key: str) -> Any:
    """The solution, folded on the page, from the source of the reference itself."""
    exercise = find_exercise(key)
    return _markdown(solution_markdown(exercise), key, "solution", tags=[SOLUTION_TAG])


def quiz_cell(key: str) -> Any:
    """The one call that shows a section's quiz."""
    find_quiz(key)
    return _code(f'from dlcourse.exercises import quiz\n\nquiz("{key}")', key, "quiz")


def label(key: str) -> str:
    """The label of an exercise on the page: ``119.2.lion`` -> ``ex-119-2-lion``."""
    return "ex-" + key.replace(".", "-")


def statement_markdown(exercise: Exercise | Prediction) -> str:
    """The statement, called by its key as in the messages of ``check``; its kind comes first."""
    title = f"{exercise.key}: {exercise.title}"
    options = [f":label: {label(exercise.key)}", f":class: {exercise.difficulty}"]
    body = f"*{exercise.difficulty.capitalize()}.*\n\n{exercise.statement.strip()}"
    return _directive("exercise", title, options, body)


def solution_markdown(exercise: Exercise | Prediction) -> str:
    """The solution, folded on the page."""
    source = function_source(_answer_function(exercise))
    text = f"{exercise.discussion.strip()}\n\n```python\n{source}\n```".strip()
    options = [f":label: sol-{label(exercise.key).removeprefix('ex-')}"]
    return _directive("solution", exercise.key, options, text)


def stub_source(exercise: Exercise | Prediction) -> str:
    """The learner's cell: the reference without its body, or a place for a value."""
    if isinstance(exercise, Prediction):
        kind = " or ".join(map(repr, exercise.choices)) or "a number"
        return f"{exercise.variable} = ...  # your prediction: {kind}"
    lines = function_source(exercise.reference).splitlines()
    (function,) = ast.parse("\n".join(lines)).body
    first = function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    head = lines[: first.end_lineno if has_docstring else first.lineno - 1]
    body = '    raise NotImplementedError("replace this line with your own")'
    return _below_imports(exercise, "\n".join([*head, body]))


def check_source(exercise: Exercise | Prediction) -> str:
    """The cell that checks what the stub's cell defined."""
    return (
        "from dlcourse.exercises import check\n\n"
        f'check("{exercise.key}", {exercise.variable})'
    )


def run_source(exercise: Prediction) -> str:
    """The cell that runs what was predicted: not before, lest "Run All" gives the answer away."""
    source = function_source(exercise.experiment)
    run = (
        f"if {exercise.variable} is ...:\n"
        '    print("Write down your prediction first; then this cell shows what happens.")\n'
        "else:\n"
        f"    print({exercise.experiment.__name__}())"
    )
    return _below_imports(exercise, f"{source}\n\n\n{run}")


def function_source(function: Callable[..., Any]) -> str:
    """The source of a function, as it stands in its file."""
    return textwrap.dedent(inspect.getsource(function)).rstrip()


def _answer_function(exercise: Exercise | Prediction) -> Callable[..., Any]:
    return exercise.experiment if isinstance(exercise, Prediction) else exercise.reference


def _below_imports(exercise: Exercise | Prediction, source: str) -> str:
    return f"{exercise.imports.strip()}\n\n\n{source}" if exercise.imports else source


def _directive(name: str, argument: str, options: list[str], body: str) -> str:
    return "\n".join([f"::::{{{name}}} {argument}", *options, "", body.strip(), "::::"])


def _markdown(source: str, key: str, role: str, tags: Sequence[str] = ()) -> Any:
    from nbformat.v4 import new_markdown_cell

    return new_markdown_cell(source, **_identity(key, role, tags))


def _code(source: str, key: str, role: str, tags: Sequence[str] = ()) -> Any:
    from nbformat.v4 import new_code_cell

    return new_code_cell(source, **_identity(key, role, tags))


def _identity(key: str, role: str, tags: Sequence[str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"dlcourse": {"key": key, "role": role}}
    if tags:
        metadata["tags"] = list(tags)
    return {"id": f"{label(key)}-{role}"[:64], "metadata": metadata}
