"""The command ``dlcourse progress``."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from dlcourse.exercises.report import Row


def show_all_text() -> None:
    """Let no text stop a command: what the terminal's encoding lacks is shown as ``\\u2713``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def progress(
    export: Annotated[
        Optional[Path], typer.Option(help="Write a copy of the results to this file.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget all results.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a reset.")] = False,
) -> None:
    """Show what is done, what is open and what to review next."""
    from dlcourse.exercises import progress as store
    from dlcourse.exercises import report
    from dlcourse.files import kept_note

    show_all_text()
    try:
        with _plain_warnings():
            if export is not None:
                copy = store.export(export)
                typer.echo(f"written: {export}")
                if copy:
                    typer.echo(kept_note(export, copy))
            if reset:
                if not yes:
                    typer.confirm(f"Forget all results in {store.progress_path()}?", abort=True)
                store.reset()
                typer.echo("forgotten")
            if export is None and not reset:
                _print_progress(report.rows())
    except (store.ProgressError, OSError) as error:
        typer.echo(f"dlcourse: {error}", err=True)
        raise typer.Exit(1) from None


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as lines of this program, without the place in the code that they come from."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda said, *_, **__: typer.echo(f"dlcourse: {said}", err=True)
        yield


def _print_progress(rows: list[Row]) -> None:
    import datetime as dt

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dlcourse.exercises import report

    today = dt.date.today()
    table = Table(box=None, padding=(0, 1))
    for name in ("", "exercise"):
        table.add_column(name, no_wrap=True, overflow="fold")  # a key is there to be copied
    table.add_column("title")
    for name in ("tries", "hints", "review"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        due = "" if row.due is None else "today" if row.due <= today else str(row.due)
        tries, hints = (str(count or "") for count in (row.attempts, row.hints))
        table.add_row(report.STATES[row.state][0], row.key, Text(row.title), tries, hints, due)
    console = Console(highlight=False)
    console.print(table)
    done = sum(row.state == "done" for row in rows)
    typer.echo(f"{done} of {len(rows)} done. {report.advice(rows, today)}")
