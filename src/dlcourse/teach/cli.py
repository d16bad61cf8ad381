"""The commands ``dlcourse instructor build`` and ``dlcourse instructor grade``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from dlcourse.exercises.cli import show_all_text
from dlcourse.files import kept_note

if TYPE_CHECKING:
    from dlcourse.teach.table import Grade, Summary

instructor = typer.Typer(
    no_args_is_help=True, help="For those who teach: solutions, slides, grading."
)


@instructor.command()
def build(
    paths: Annotated[
        Optional[list[str]], typer.Argument(help="Sources or folders; by default, all.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("_build/instructor"),
) -> None:
    """Make notebooks with solutions and timing notes, and slides from cell tags."""
    show_all_text()
    _require("jupytext", "nbformat", "nbconvert", "yaml", "pybtex", extra="book")
    from dlcourse.teach import instructor as edition
    from dlcourse.build.project import ProjectError, find_root
    from dlcourse.build.runner import resolve

    try:
        root = find_root()
        written = edition.build(root, resolve(paths or [], root), out, tell=typer.echo)
    except (ProjectError, ValueError, LookupError, OSError) as error:
        typer.echo(f"dlcourse: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{len(written)} files in {out}")


@instructor.command()
def grade(
    folder: Annotated[Path, typer.Argument(help="Folder of learners' notebooks.")],
    out: Annotated[Path, typer.Option(help="The table of grades.")] = Path("grades.csv"),
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for one notebook.")] = 300,
    memory: Annotated[float, typer.Option(min=100, help="Megabytes for one notebook.")] = 4096,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Notebooks at a time.")] = 1,
) -> None:
    """Run each notebook of a folder in a process of its own, and grade its exercises.

    This is no sandbox: the notebooks run with your rights.
    """
    show_all_text()
    _require("IPython", "psutil", extra="notebooks")
    from dlcourse.files import try_writing
    from dlcourse.teach import grader, table

    summary = table.summary_path(out)
    try:
        for path in (out, summary):  # before the work, not after it
            try_writing(path)
        grades, keys = grader.grade_folder(
            folder, timeout=timeout, memory=memory, jobs=jobs, finished=_print_grade
        )
        quizzes = grader.expected_quizzes(keys)
        summaries = table.summarise(grades, keys)
        for path, kept in (
            (out, table.write_grades(grades, keys, quizzes, out)),
            (summary, table.write_summary(summaries, summary)),
        ):
            if kept:
                typer.echo(kept_note(path, kept))
    except OSError as error:
        typer.echo(f"dlcourse: {error}", err=True)
        raise typer.Exit(1) from None
    _print_class(grades, summaries, quizzes)
    typer.echo(f"{len(grades)} notebooks, {len(keys)} exercises each: {out}, {summary}")
    if left := len(grader.find_notebooks(folder)) - len(grades):
        typer.echo(f"dlcourse: interrupted; {left} notebooks are not graded", err=True)
        raise typer.Exit(130)


def _print_grade(row: Grade) -> None:
    from collections import Counter

    from dlcourse.teach.table import cell

    counts = Counter(row.results.values())
    said = ", ".join(f"{count} {result}" for result, count in counts.items()) or "no exercises"
    remark = f" ({cell(row.remarks[0])})" if row.remarks else ""
    typer.echo(f"{cell(row.notebook)}: {said}{remark}")


def _print_class(
    grades: Sequence[Grade], summaries: Sequence[Summary], quizzes: Sequence[str]
) -> None:
    from dlcourse.teach.table import NOT_RECORDED

    typer.echo("")
    for summary in summaries:
        typer.echo(summary.line())
    for key in quizzes:
        recorded = [grade.quizzes.get(key, NOT_RECORDED) for grade in grades]
        missing = recorded.count(NOT_RECORDED)
        typer.echo(f"quiz {key}: answers in {len(recorded) - missing} notebooks")
        if missing:
            typer.echo(
                f"  {missing} have none: the answers stand in the quiz's output, which is empty "
                "before the quiz is answered, and after outputs are cleared"
            )
    typer.echo("")


def _require(*modules: str, extra: str) -> None:
    from importlib.util import find_spec

    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        typer.echo(f"dlcourse: {names} not installed; pip install 'dlcourse[{extra}]'", err=True)
        raise typer.Exit(1)
