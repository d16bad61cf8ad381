"""Grade a folder of learners' notebooks, each in a process of its own with limits.

A notebook that crashes, hangs, fills the memory or starts other processes spoils its own row and
no other. This bounds accidents and lazy tricks; it is no sandbox: a notebook runs with the rights
of whoever grades it. Grade strangers' notebooks in a container or under another user.

Linux and macOS: the processes are ended by group, and by a mark in their environment.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlcourse.exercises import checker, registry
from dlcourse.exercises.model import Exercise, Prediction
from dlcourse.teach.wire import WireError, decode, encode
from dlcourse.files import write_atomic

ERROR = "error"
REPLY_LIMIT = 64 * 2**20  # bytes of one reply
PROCESS_LIMIT = 64
CASES = 24  # of fresh seeds, for each exercise
POLL_SECONDS = 0.05
_MARK = "DLCOURSE_GRADED"
_COPIED = re.compile(r"dlcourse\.\w+\.exercises|find_exercise|load_chapter|all_exercises")
_KEY = re.compile(r"\bcheck\(\s*[\"']([\w.-]+)[\"']")


class Ended(RuntimeError):
    """The notebook's process is no longer there, or has broken a limit; says which."""


@dataclass
class Grade:
    """The row of one notebook: per exercise passed, failed, not attempted or error, and why."""

    notebook: str
    results: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def passed(self) -> int:
        """How many exercises passed."""
        return sum(result == checker.PASSED for result in self.results.values())


def find_notebooks(folder: Path) -> list[Path]:
    """The notebooks under a folder, without Jupyter's checkpoints.

    Raises:
        FileNotFoundError: there is no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    found = sorted(p for p in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    if not found:
        raise FileNotFoundError(f"there is no notebook (.ipynb) in {folder}")
    return found


def _code(path: Path) -> str:
    """The code of a notebook's cells. Raises what a file that is no notebook makes it raise."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def expected_keys(notebooks: Iterable[Path]) -> list[str]:
    """All exercises of the sections that any of the notebooks checks something of."""
    sections = set()
    for path in notebooks:
        try:
            code = _code(path)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # its own row will say so
        sections |= {key.rpartition(".")[0] for key in _KEY.findall(code)}
    return [e.key for e in registry.all_exercises() if e.key.rpartition(".")[0] in sections]


def grade_notebook(
    path: Path, keys: Sequence[str], *, timeout: float = 300.0, memory: float = 4096.0
) -> Grade:
    """Run one notebook within ``timeout`` seconds and ``memory`` megabytes, and judge its answers.

    The cases are drawn from fresh seeds, and judged in this process.
    """
    grade = Grade(path.name)
    try:
        code = _code(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _spoil(grade, keys, f"not a notebook: {error}")
    if _COPIED.search(code):
        grade.remarks.append("reads the course's own exercise files: look at its answers")
    with tempfile.TemporaryDirectory(prefix="dlcourse-grade-") as scratch:
        with _Child(path.resolve(), Path(scratch), timeout, memory) as child:
            try:
                errors = child.receive().get("errors", [])
                grade.remarks += [str(error) for error in errors][:5]
                for key in keys:
                    verdict = _judge(registry.find_exercise(key), child)
                    grade.results[key] = verdict.status
                    if verdict.status == checker.FAILED:
                        grade.reasons[key] = " ".join(verdict.message.split())
            except (Ended, WireError) as error:
                _spoil(grade, [key for key in keys if key not in grade.results], str(error))
    return grade


def grade_folder(
    folder: Path,
    *,
    timeout: float = 300.0,
    memory: float = 4096.0,
    jobs: int = 1,
    finished: Callable[[Grade], None] = lambda grade: None,
) -> tuple[list[Grade], list[str]]:
    """Grade all notebooks under ``folder``; return their rows and the keys of the columns."""
    notebooks = find_notebooks(folder)
    keys = expected_keys(notebooks)

    def grade(path: Path) -> Grade:
        row = grade_notebook(path, keys, timeout=timeout, memory=memory)
        row.notebook = path.relative_to(folder).as_posix()
        finished(row)
        return row

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(grade, notebooks)), keys


def _spoil(grade: Grade, keys: Sequence[str], reason: str) -> Grade:
    grade.results.update(dict.fromkeys(keys, ERROR))
    grade.remarks.insert(0, reason)
    return grade


def _judge(exercise: Exercise | Prediction, child: _Child) -> checker.Verdict:
    reply = child.ask({"key": exercise.key})
    if isinstance(exercise, Prediction):
        return checker.examine(exercise, decode(reply.get("value")))
    if reply.get("missing"):
        return checker.Verdict(checker.NOT_ATTEMPTED)
    if reply.get("problem"):
        return checker.Verdict(checker.FAILED, str(reply["problem"]))

    def call(inputs: Mapping[str, Any]) -> checker.Outcome:
        answer = child.ask({"key": exercise.key, "inputs": encode(dict(inputs))})
        complaint = answer.get("complaint")
        return checker.Outcome(
            result=decode(answer.get("result")),
            changed=tuple(str(name) for name in answer.get("changed", ())),
            complaint=None if complaint is None else str(complaint),
            untouched=answer.get("untouched") is True,
        )

    seeds = [secrets.randbelow(2**32) for _ in range(CASES)]
    return checker.examine_calls(exercise, call, seeds)


class _Child:
    """The process of one notebook, its limits, and the pipes to it."""

    def __init__(self, path: Path, scratch: Path, timeout: float, memory: float) -> None:
        self._path, self._scratch = path, scratch
        self._timeout, self._memory = timeout, memory
        self._deadline = time.monotonic() + timeout
        self._mark = uuid.uuid4().hex
        self._verdict: str | None = None
        self._over = threading.Event()
        self._buffer = bytearray()

    def __enter__(self) -> _Child:
        their_requests, self._requests = os.pipe()
        self._replies, their_replies = os.pipe()
        command = [
            sys.executable, "-m", "dlcourse.teach.grade_child",
            str(self._path), str(their_requests), str(their_replies),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._scratch,
            env=self._environment(),
            pass_fds=(their_requests, their_replies),
            start_new_session=True,
        )
        os.close(their_requests)
        os.close(their_replies)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._watcher.join()
        self._kill()
        os.close(self._requests)
        os.close(self._replies)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its reply. Raises Ended."""
        data = memoryview((json.dumps(request) + "\n").encode())
        os.set_blocking(self._requests, False)
        while data:
            self._wait(self._requests, selectors.EVENT_WRITE)
            try:
                data = data[os.write(self._requests, data) :]
            except BrokenPipeError:
                raise Ended(self._how_it_ended()) from None
            except BlockingIOError:
                continue
        return self.receive()

    def receive(self) -> dict[str, Any]:
        """Wait for one line of the child. Raises Ended."""
        end = self._buffer.find(b"\n")
        while end < 0:
            self._wait(self._replies, selectors.EVENT_READ)
            part = os.read(self._replies, 2**20)
            if not part:
                raise Ended(self._how_it_ended())
            searched = len(self._buffer)
            self._buffer += part
            if len(self._buffer) > REPLY_LIMIT:
                raise Ended(f"an answer was larger than {REPLY_LIMIT // 2**20} MB")
            end = self._buffer.find(b"\n", searched)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            reply = json.loads(line)
        except ValueError:
            raise Ended("the notebook wrote into the grader's channel") from None
        if not isinstance(reply, dict):
            raise Ended("the notebook wrote into the grader's channel")
        return reply

    def _wait(self, fd: int, event: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(fd, event)
            while not selector.select(POLL_SECONDS):
                if self._verdict:
                    raise Ended(self._verdict)

    def _how_it_ended(self) -> str:
        if self._verdict:
            return self._verdict
        try:
            code = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "the notebook closed the grader's channel"
        if code < 0:
            return f"the notebook's process died ({signal.Signals(-code).name})"
        return f"the notebook ended its process (exit code {code})"

    def _environment(self) -> dict[str, str]:
        scratch = str(self._scratch)
        return {
            **os.environ,
            _MARK: self._mark,
            "DLCOURSE_STATIC": "1",
            "DLCOURSE_PROGRESS": os.path.join(scratch, "progress.json"),
            "IPYTHONDIR": os.path.join(scratch, ".ipython"),
            "MPLBACKEND": "Agg",
            "TMPDIR": scratch,
        }

    def _watch(self) -> None:
        """End the process when it breaks a limit, until the grader has what it wants."""
        while not self._over.wait(POLL_SECONDS):
            found = self._broken_limit()
            if found:
                self._verdict = found
                self._kill()
                return

    def _broken_limit(self) -> str | None:
        if time.monotonic() > self._deadline:
            return f"time limit of {self._timeout:g} s"
        processes = self._tree()
        if len(processes) > PROCESS_LIMIT:
            return f"more than {PROCESS_LIMIT} processes"
        limit = self._memory * 2**20
        if _memory(processes, "memory_info", "rss") <= limit:
            return None
        # Forked processes share memory, which the resident size counts for each of them.
        if _memory(processes, "memory_full_info", "pss") <= limit:
            return None
        return f"memory limit of {self._memory:g} MB"

    def _tree(self) -> list[Any]:
        import psutil

        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _kill(self) -> None:
        """End the process, its descendants, its group, and what left both but has our mark."""
        import psutil

        for _ in range(10):
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
            left = [*self._tree(), *_marked(self._mark)]
            for process in left:
                try:
                    process.kill()
                except psutil.Error:
                    continue
            if self._process.poll() is not None and not left:
                return
            psutil.wait_procs(left, timeout=0.2)


def _memory(processes: Sequence[Any], method: str, measure: str) -> int:
    """Bytes that the processes use together; their unique memory where there is no such measure."""
    import psutil

    used = 0
    for process in processes:
        try:
            found = getattr(process, method)()
        except psutil.Error:  # it has ended in the meantime
            continue
        used += getattr(found, measure, None) or getattr(found, "uss", 0)
    return used


def _marked(mark: str) -> list[Any]:
    """The processes that inherited our mark, also those that have left their parent."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(_MARK) == mark:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return [process for process in found if process.status() != "zombie"]


def write_csv(grades: Sequence[Grade], keys: Sequence[str], target: Path) -> None:
    """Write one row a notebook: passed, each exercise's result, and the reasons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["notebook", "passed", "of", *keys, "remarks"])
    for grade in grades:
        reasons = [f"{key}: {reason}" for key, reason in grade.reasons.items()]
        remarks = "; ".join([*grade.remarks, *reasons])
        results = [grade.results.get(key, ERROR) for key in keys]
        writer.writerow([_cell(grade.notebook), grade.passed, len(keys), *results, _cell(remarks)])
    write_atomic(target, text.getvalue())


def _cell(text: str) -> str:
    """Text that a spreadsheet takes as text, also when a learner begins it with ``=``."""
    text = "".join(c if c.isprintable() else " " for c in text)[:2000]
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
