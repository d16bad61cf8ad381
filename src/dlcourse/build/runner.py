"""Execute the chapters' notebooks: in parallel, cached, measured, and interruptible.

``dlcourse run`` is this module's command line. Worker processes execute and measure; only the
parent writes, always by renaming a whole file into place:

- ``_build/executed/<source>.ipynb``, which the site shows,
- ``_build/executed/summary.json``, from which the status page is made,
- ``<stem>.gpu.json`` beside the source (``--record``, on a GPU).
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from dlcourse import devices
from dlcourse.build import project, records, sources
from dlcourse.files import TEMPORARY_SUFFIX, write_atomic
from dlcourse.build.myst import MystError
from dlcourse.build.project import ProjectError

EXECUTED = Path("_build/executed")
SUMMARY = EXECUTED / "summary.json"
PROFILES = ("cpu", "gpu")
_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Job:
    """One notebook to execute. ``source`` is relative to ``root``."""

    root: Path
    source: Path
    profile: str
    timeout: int


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook.

    ``result`` is ``ok``, ``failed`` or ``cached``; ``seconds`` is wall time from before the kernel
    starts until it has stopped; ``peak_memory_mb`` is what ``PeakMemory`` measures. ``error`` is
    one line, ``report`` the traceback, ``notebook`` the executed notebook's text.
    """

    source: Path
    result: str
    seconds: float = 0.0
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


# --- in a worker process --------------------------------------------------------------------------


def _kill_all(processes: Iterable[Any]) -> None:
    import psutil

    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue


def _start_worker(threads: int) -> None:
    """Share the cores, leave Ctrl-C to the parent, and die with the parent, kernels and all."""
    import psutil

    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.3)
        _kill_all(psutil.Process().children(recursive=True))
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _parameters(notebook: Any, profile: str) -> dict[str, str] | None:
    """``{"profile": profile}`` if the notebook has it as a parameter with another value."""
    for cell in notebook.cells:
        if records.has_tag(cell, "parameters"):
            default = re.search(r"^profile\s*=\s*[\"'](\w+)[\"']", cell.source, re.MULTILINE)
            if default and default.group(1) != profile:
                return {"profile": profile}
    return None


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
    import papermill
    from papermill.engines import papermill_engines

    from dlcourse.build.engine import CourseEngine

    papermill_engines.register("dlcourse", CourseEngine)  # also where the package is not installed
    source = job.root / job.source
    notebook = sources.read_source(source)
    executed = papermill.execute_notebook(
        notebook,
        None,
        parameters=_parameters(notebook, job.profile),
        engine_name="dlcourse",
        cwd=str(source.parent),
        progress_bar=False,
        execution_timeout=job.timeout,
        record=records.read_record(records.record_path(source)),
        kernel_stderr=kernel_stderr,
    )
    clean(executed)
    return executed


def _explain(error: Exception) -> tuple[str, str]:
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
    """Execute one notebook in this process. Never raises: an error is in the outcome."""
    import nbformat
    from nbclient.exceptions import DeadKernelError

    start = time.perf_counter()
    notebook = error = report = None
    with tempfile.TemporaryFile() as kernel_stderr, PeakMemory() as memory:
        try:
            notebook = nbformat.writes(_execute_notebook(job, kernel_stderr))
        except Exception as exception:  # noqa: BLE001 - any failure spoils this notebook only
            error, report = _explain(exception)
            if isinstance(exception, DeadKernelError):
                kernel_stderr.seek(0)
                report += "\n" + kernel_stderr.read().decode(errors="replace")[-4000:]
    seconds = time.perf_counter() - start
    result = "failed" if error else "ok"
    return Outcome(job.source, result, seconds, memory.megabytes, error, report, notebook)


# --- in the parent --------------------------------------------------------------------------------


def package_digest(root: Path) -> str:
    """SHA-256 over the package's Python files and the locked versions."""
    digest = hashlib.sha256()
    files = [*sorted((root / "src" / "dlcourse").rglob("*.py")), root / "constraints.txt"]
    for file in files:
        content = file.read_bytes() if file.is_file() else b""
        name = file.relative_to(root).as_posix()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def cache_key(root: Path, source: Path, profile: str, package: str) -> str:
    """SHA-256 of all that an executed notebook depends on.

    Its source, the package and locked versions (``package``), the profile, its GPU record, and
    whether there is a GPU.
    """
    record = records.record_path(root / source)
    parts = (
        (root / source).read_bytes(),
        package,
        profile,
        record.read_bytes() if record.exists() else None,
        devices.gpu_available(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def executed_path(root: Path, source: Path) -> Path:
    """Where the executed copy of ``source`` (relative to ``root``) lies."""
    return root / EXECUTED / source.with_suffix(".ipynb")


def read_summary(root: Path) -> dict[str, dict[str, Any]]:
    """The last result of each notebook by source path; empty when there is none to read."""
    try:
        summary = json.loads((root / SUMMARY).read_text(encoding="utf8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _update_summary(root: Path, source: Path, entry: dict[str, Any] | None) -> None:
    """Set one entry (None removes it), leaving what other runs have written."""
    summary = read_summary(root)
    summary.pop(source.as_posix(), None)
    if entry is not None:
        summary[source.as_posix()] = entry
    write_atomic(root / SUMMARY, json.dumps(summary, indent=1, sort_keys=True) + "\n")


def prune(root: Path) -> list[Path]:
    """Delete executed copies whose source is gone, and what killed runs have left half-written."""
    folder = root / EXECUTED
    stale = []
    for copy in sorted(folder.rglob("*.ipynb")):
        source = copy.relative_to(folder).with_suffix(".py")
        if not (root / source).is_file():
            copy.unlink()
            stale.append(source)
    for source in {*stale, *(Path(s) for s in read_summary(root) if not (root / s).is_file())}:
        _update_summary(root, source, None)
    for left in folder.rglob(f".*{TEMPORARY_SUFFIX}"):
        if time.time() - left.stat().st_mtime > 60:  # younger ones may belong to a run under way
            left.unlink(missing_ok=True)
    return stale


def resolve(paths: Sequence[str | Path], root: Path) -> list[Path]:
    """Sources, relative to ``root``, of the given files and folders; of all of them by default.

    A ``.ipynb`` stands for the source beside it. Raises ProjectError for what is not a chapter.
    """
    if not paths:
        return [source.relative_to(root) for source in project.listed_sources(root)]
    found: dict[Path, None] = {}
    chapters = (root / "chapters").resolve()
    for given in paths:
        path = next((p for p in (Path(given), root / given) if p.exists()), None)
        if path is None:
            raise ProjectError(f"{given} does not exist; `dlcourse list` shows the chapters")
        path = path.resolve()
        if not path.is_relative_to(chapters):
            raise ProjectError(f"{given} is not a chapter: it is not under {chapters}")
        if path.is_dir():
            files = sorted(path.rglob("*.py"))
        else:
            files = [path.with_suffix(".py")] if path.suffix in (".py", ".ipynb") else []
        if not files or not files[0].is_file():
            raise ProjectError(f"{given} is not a chapter: it has no .py source")
        found.update(dict.fromkeys(file.relative_to(root) for file in files))
    return list(found)


def badge(seconds: float, megabytes: float, device: str) -> str:
    """The line under a page's title: time, memory and device as measured."""
    duration = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.1f} minutes"
    return (
        f'<p class="badge-line">Measured when this page was built: {duration}, '
        f"{megabytes:,.0f} MB of memory at the peak, on {device}.</p>"
    )


def insert_badge(notebook: Any, line: str) -> None:
    """Put the badge line right below the first heading of the first Markdown cell that has one."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = re.search(r"^#{1,6}\s+.+$", cell.source, re.MULTILINE)
            if heading:
                before, after = cell.source[: heading.end()], cell.source[heading.end() :]
                cell.source = f"{before}\n\n{line}\n\n{after.lstrip(chr(10))}".rstrip("\n")
                return


def _store(root: Path, outcome: Outcome, key: str, record: bool) -> Outcome:
    """Write notebook, record and summary of one outcome; a record that is refused makes it fail."""
    import nbformat

    device = devices.device_name()
    target = executed_path(root, outcome.source)
    if outcome.notebook is not None:
        notebook = nbformat.reads(outcome.notebook, as_version=4)
        try:
            if record and records.gpu_cells(notebook):
                records.write_record(
                    records.record_path(root / outcome.source),
                    records.make_record(
                        notebook,
                        device=device,
                        versions=devices.versions(),
                        date=datetime.now(UTC).date().isoformat(),
                        commit=devices.commit(root),
                    ),
                )
        except records.RecordError as error:
            outcome = Outcome(
                outcome.source, "failed", outcome.seconds, outcome.peak_memory_mb,
                f"RecordError: {error}", str(error),
            )  # fmt: skip
    if outcome.result == "ok":
        insert_badge(notebook, badge(outcome.seconds, outcome.peak_memory_mb, device))
        write_atomic(target, sources.notebook_text(notebook))
    else:
        target.unlink(missing_ok=True)  # the site must not show what the source no longer gives
    entry = {
        "result": outcome.result,
        "seconds": round(outcome.seconds, 2),
        "peak_memory_mb": round(outcome.peak_memory_mb, 1),
        "device": device,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "key": key,
        "error": outcome.error,
    }
    _update_summary(root, outcome.source, entry)
    return outcome


def _kill_workers() -> None:
    """Kill the worker processes and all that they have started."""
    import psutil

    for worker in multiprocessing.active_children():
        try:
            tree = psutil.Process(worker.pid)
            _kill_all([*tree.children(recursive=True), tree])
        except psutil.Error:
            continue


@contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside; on any exception, no worker or kernel is left."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, interrupt) if in_main_thread else None
    try:
        yield
    except BaseException:
        _kill_workers()
        raise
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)


def _execute_all(jobs: list[Job], workers: int) -> Iterator[Outcome]:
    """Outcomes of all jobs, as they come."""
    threads = max(1, devices.available_cores() // workers)
    # spawn: a worker must not inherit threads and locks of a parent that draws a progress bar
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (threads,))
    with _terminated_like_ctrl_c():
        try:
            waiting = {pool.submit(execute, job): job for job in jobs}
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    job = waiting.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        text = "a worker process was killed, perhaps for want of memory; try -j 1"
                        yield Outcome(job.source, "failed", error=text, report=text)
        finally:
            pool.shutdown(wait=not waiting, cancel_futures=True)


def run(
    chosen: Sequence[Path],
    root: Path,
    *,
    jobs: int = 1,
    force: bool = False,
    timeout: int = 600,
    record: bool = False,
    profile: str = "cpu",
    started: Callable[[int], None] = lambda count: None,
    finished: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Bring the learner's notebooks in step, then execute what has changed.

    Args:
        chosen: sources relative to ``root``.
        root: the checkout.
        jobs: notebooks executed at a time; each kernel gets its share of the cores.
        force: execute also what the cache has.
        timeout: seconds that one cell may take.
        record: write what gpu cells print to their records. Executes what has gpu cells anew.
        profile: ``cpu`` or ``gpu``, given to notebooks that have it as a parameter.
        started: called with the number of notebooks that will be executed.
        finished: called with each outcome, in the order in which they come.

    Raises ValueError for a wrong option, and ``record`` where there is no GPU. A notebook that
    fails raises nothing: it is in the outcomes.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, not {profile!r}")
    if jobs < 1 or timeout < 1:
        raise ValueError("jobs and timeout must be at least 1")
    if record and not devices.gpu_available():
        raise ValueError("records are written only on a GPU, and there is none here")
    prune(root)
    package, summary = package_digest(root), read_summary(root)
    outcomes: list[Outcome] = []
    work: list[Job] = []

    def finish(outcome: Outcome) -> None:
        outcomes.append(outcome)
        finished(outcome)

    cached: list[Outcome] = []
    keys: dict[Path, str] = {}
    for source in chosen:
        try:
            sources.write_pair(root / source, root)
        except Exception as exception:  # noqa: BLE001 - spoils this notebook only
            error, report = _explain(exception)
            failed = Outcome(source, "failed", error=error, report=report)
            cached.append(_store(root, failed, key="", record=False))
            continue
        last = summary.get(source.as_posix(), {})
        fresh = last.get("result") == "ok" and executed_path(root, source).exists()
        # taken before it runs: an edit while it runs must not pass for what was executed
        keys[source] = cache_key(root, source, profile, package)
        fresh = fresh and last.get("key") == keys[source]
        if fresh and not force and not record:
            cached.append(Outcome(source, "cached", last["seconds"], last["peak_memory_mb"]))
        else:
            work.append(Job(root, source, profile, timeout))
    started(len(work))
    for outcome in cached:
        finish(outcome)
    if work:
        for outcome in _execute_all(work, min(jobs, len(work))):
            finish(_store(root, outcome, keys[outcome.source], record))
    return outcomes
