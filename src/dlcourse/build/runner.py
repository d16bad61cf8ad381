"""Execute the chapters' notebooks that have changed, several at a time.

``dlcourse run`` is this module's command line. Worker processes execute and measure
(``worker``); only the parent writes (``results``).
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from dlcourse.build import learner, project, results, sources
from dlcourse.build.keys import notebook_key
from dlcourse.build.project import ProjectError
from dlcourse.build.reach import Package
from dlcourse.build.staleness import record_states
from dlcourse.build.worker import Job, Outcome, execute, explain, kill_all, start_worker


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
        files = [file for file in files if not project.is_hidden(file.relative_to(chapters))]
        if not files or not files[0].is_file():
            raise ProjectError(f"{given} is not a chapter: it has no .py source")
        found.update(dict.fromkeys(file.relative_to(root.resolve()) for file in files))
    return list(found)


def _kill_workers() -> None:
    """Kill the worker processes and all that they have started."""
    import psutil

    for worker in multiprocessing.active_children():
        try:
            tree = psutil.Process(worker.pid)
            kill_all([*tree.children(recursive=True), tree])
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


def execute_all(jobs: list[Job], workers: int) -> Iterator[tuple[Job, Outcome]]:
    """All jobs with their outcomes, as they come; ``workers`` at a time."""
    # spawn: a worker must not inherit threads and locks of a parent that draws a progress bar
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, start_worker)
    waiting: dict[Future[Outcome], Job] = {}
    with _terminated_like_ctrl_c():
        try:
            for job in jobs:
                waiting[pool.submit(execute, job)] = job
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    job = waiting.pop(future)
                    try:
                        yield job, future.result()
                    except BrokenProcessPool:
                        text = "a worker process was killed, perhaps for want of memory; try -j 1"
                        yield job, Outcome(job.source, "failed", error=text, report=text)
        finally:
            pool.shutdown(wait=not waiting, cancel_futures=True)


def run(
    chosen: Sequence[Path],
    root: Path,
    *,
    jobs: int = 1,
    force: bool = False,
    timeout: int = 600,
    started: Callable[[int], None] = lambda count: None,
    finished: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Bring the learner's notebooks in step, then execute what has changed.

    Args:
        chosen: sources relative to ``root``.
        root: the checkout.
        jobs: notebooks executed at a time; each kernel computes with one thread.
        force: execute also what has the key of its last run.
        timeout: seconds that one cell may take.
        started: called with the number of notebooks that will be executed.
        finished: called with each outcome, in the order in which they come.

    Raises ValueError for a wrong option. A notebook that fails raises nothing: it is in the
    outcomes.
    """
    if jobs < 1 or timeout < 1:
        raise ValueError("jobs and timeout must be at least 1")
    results.prune(root)
    package, summary = Package(root), results.read_summary(root)
    ready: list[Outcome] = []
    work: list[Job] = []
    keys: dict[Path, str] = {}
    for source in chosen:
        try:
            learner.write_pair(root / source, root)
            notebook = sources.read_source(root / source, root)
            states = record_states(notebook, root, source, package)
            # taken before it runs: an edit while it runs must not pass for what was executed
            keys[source] = notebook_key(notebook, package, states)
        except Exception as exception:  # noqa: BLE001 - spoils this notebook only
            error, report = explain(exception)
            failed = Outcome(source, "failed", error=error, report=report)
            ready.append(results.store(root, failed, key=""))
            continue
        last = summary.get(source.as_posix(), {})
        same = last.get("result") == "ok" and last.get("key") == keys[source]
        if same and results.executed_path(root, source).exists() and not force:
            measured = (last["seconds"], last.get("cpu_seconds", 0.0), last["peak_memory_mb"])
            ready.append(Outcome(source, "cached", *measured))
        else:
            work.append(
                Job(
                    root,
                    source,
                    sources.notebook_text(notebook),
                    timeout,
                    records={key: s.record for key, s in states.items() if s.record},
                    changed={key: s.changed for key, s in states.items() if s.changed},
                )
            )
    # The longest first, as far as is known: two long ones at the end would wait for each other.
    work.sort(key=lambda job: -summary.get(job.source.as_posix(), {}).get("cpu_seconds", 1e9))
    started(len(work))
    outcomes: list[Outcome] = []
    for outcome in ready:
        outcomes.append(outcome)
        finished(outcome)
    if work:
        for job, outcome in execute_all(work, jobs):
            outcomes.append(results.store(root, outcome, keys[job.source]))
            finished(outcome)
    return outcomes
