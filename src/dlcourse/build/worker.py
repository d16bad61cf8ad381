"""Execute one notebook in a process of its own, and measure it."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from dlcourse.build import sources
from dlcourse.build.myst import MystError
from dlcourse.build.project import ProjectError
from dlcourse.notebook import records
from dlcourse.notebook.records import CellRecord

_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Job:
    """One notebook to execute: its text (nbformat's JSON), and what its recorded cells show.

    ``source`` is relative to ``root``; the kernel's folder is the source's.
    """

    root: Path
    source: Path
    notebook: str
    timeout: int
    records: Mapping[str, CellRecord] = field(default_factory=dict)
    changed: Mapping[str, str] = field(default_factory=dict)
    run_recorded: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook.

    ``result`` is ``ok``, ``failed`` or ``cached``. ``seconds`` is wall time from before the kernel
    starts until it has stopped, ``cpu_seconds`` the processor time of the kernel and all that it
    started and waited for; ``peak_memory_mb`` is what ``PeakMemory`` measures. ``error`` is one
    line, ``report`` the traceback, ``notebook`` the executed notebook's text.
    """

    source: Path
    result: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    error: str | None = None
    report: str | None = None
    notebook: str | None = None


class PeakMemory:
    """Peak resident memory of the kernel and its children, in MB (10⁶ bytes).

    Ten times a second, the resident set sizes of all processes that descend from this one are
    added up; the greatest sum counts. Pages that several processes share are counted in each, the
    process that drives the kernel is not counted, and a peak between two samples can be missed.
    """

    def __init__(self) -> None:
        self.megabytes = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        import psutil

        this = psutil.Process()
        while not self._done.wait(_SAMPLE_SECONDS):
            total = 0
            for process in this.children(recursive=True):
                try:
                    total += process.memory_info().rss
                except psutil.Error:  # it has ended since
                    continue
            self.megabytes = max(self.megabytes, total / 1e6)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()


def cpu_seconds_of_children() -> float:
    """Processor time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def kill_all(processes: Iterable[Any]) -> None:
    """Kill processes; those that have ended already are passed over."""
    import psutil

    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue


def start_worker() -> None:
    """Leave Ctrl-C to the parent, and die with the parent, kernels and all."""
    import psutil

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.3)
        kill_all(psutil.Process().children(recursive=True))
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def clean(notebook: Any) -> None:
    """Drop what changes from run to run, so that equal runs give equal notebooks."""
    from dlcourse.build.engine import unfold_expected_errors

    unfold_expected_errors(notebook)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if records.has_tag(cell, "injected-parameters"):
            cell.metadata["tags"] = [*cell.metadata["tags"], "remove-cell"]
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
    sources.set_cell_ids(notebook)


def _execute_notebook(job: Job, kernel_stderr: IO[bytes]) -> Any:
    import nbformat
    import papermill
    from papermill.engines import papermill_engines

    from dlcourse.build.engine import CourseEngine

    papermill_engines.register("dlcourse", CourseEngine)  # also where the package is not installed
    return papermill.execute_notebook(
        nbformat.reads(job.notebook, as_version=4),
        None,
        engine_name="dlcourse",
        cwd=str((job.root / job.source).parent),
        progress_bar=False,
        execution_timeout=job.timeout,
        known=job.records,
        changed=job.changed,
        run_recorded=job.run_recorded,
        environment=job.environment,
        threads=job.threads,
        kernel_stderr=kernel_stderr,
    )


def explain(error: Exception) -> tuple[str, str]:
    """One line, and the whole report, of what stopped a notebook."""
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        first = (error.evalue.strip().splitlines() or [""])[0]
        return f"{error.ename}: {first} (cell {error.cell_index})", str(error)
    lines = str(error).strip().splitlines() or [""]
    told = (records.RecordError, MystError, ProjectError, TimeoutError, DeadKernelError)
    clear = isinstance(error, told)  # their message is enough
    report = str(error) if clear else "".join(traceback.format_exception(error))
    return f"{type(error).__name__}: {lines[0]}", report


def execute(job: Job) -> Outcome:
    """Execute one notebook. Never raises: an error is in the outcome.

    The text of the executed notebook keeps papermill's times of the cells; ``clean`` drops them.
    """
    import nbformat
    from nbclient.exceptions import DeadKernelError

    start, cpu = time.perf_counter(), cpu_seconds_of_children()
    notebook = error = report = None
    with tempfile.TemporaryFile() as kernel_stderr, PeakMemory() as memory:
        try:
            notebook = nbformat.writes(_execute_notebook(job, kernel_stderr))
        except Exception as exception:  # noqa: BLE001 - any failure spoils this notebook only
            error, report = explain(exception)
            if isinstance(exception, DeadKernelError):
                kernel_stderr.seek(0)
                report += "\n" + kernel_stderr.read().decode(errors="replace")[-4000:]
    return Outcome(
        job.source,
        "failed" if error else "ok",
        time.perf_counter() - start,
        cpu_seconds_of_children() - cpu,
        memory.megabytes,
        error,
        report,
        notebook,
    )
