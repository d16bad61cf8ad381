"""The commands ``dlcourse instructor build`` and ``dlcourse instructor grade``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from dlcourse.exercises.cli import show_all_text

if TYPE_CHECKING:
    from dlcourse.teach.grader import Grade

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
    _require("IPython", "psutil", extra="notebooks")
    from dlcourse.teach import grader

    try:
        grades, keys = grader.grade_folder(
            folder, timeout=timeout, memory=memory, jobs=jobs, finished=_print_grade
        )
    except OSError as error:
        typer.echo(f"dlcourse: {error}", err=True)
        raise typer.Exit(1) from None
    grader.write_csv(grades, keys, out)
    typer.echo(f"{len(grades)} notebooks, {len(keys)} exercises each: {out}")


def _print_grade(row: Grade) -> None:
    from collections import Counter

    counts = Counter(row.results.values())
    said = ", ".join(f"{count} {result}" for result, count in counts.items()) or "no exercises"
    typer.echo(f"{row.notebook}: {said}" + (f" ({row.remarks[0]})" if row.remarks else ""))


def _require(*modules: str, extra: str) -> None:
    from importlib.util import find_spec

    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        typer.echo(f"dlcourse: {names} not installed; pip install 'dlcourse[{extra}]'", err=True)
        raise typer.Exit(1)
