"""The process of one learner's notebook: its limits, its environment, and the pipes to it.

Linux and macOS: processes are ended by group, and by a mark in their environment.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPLY_LIMIT = 64 * 2**20  # bytes of one reply
PROCESS_LIMIT = 64
POLL_SECONDS = 0.05
_MARK = "DLCOURSE_GRADED"


class Ended(RuntimeError):
    """The notebook's process is no longer there, or has broken a limit; says which."""


@dataclass(frozen=True)
class Limits:
    """What one notebook may use: until when, how much memory, and a way to stop all of them."""

    timeout: float  # seconds, for the message
    deadline: float  # of time.monotonic()
    memory: float  # megabytes
    stop: threading.Event = field(default_factory=threading.Event)


def environment(scratch: Path) -> dict[str, str]:
    """The environment that notebooks are graded in: ours, whatever the grader's shell has."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("IPY", "JPY_", "JUPYTER", "MPL", "PYDEVD", "LC_"))
        and name not in ("PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONINSPECT")
    }
    rc = scratch / "matplotlibrc"
    rc.write_text("backend: Agg\n", encoding="ascii")
    return {
        **inherited,
        "DLCOURSE_STATIC": "1",
        "DLCOURSE_PROGRESS": str(scratch / "progress.json"),
        "IPYTHONDIR": str(scratch / ".ipython"),
        "JUPYTER_CONFIG_DIR": str(scratch / ".jupyter"),
        "LC_ALL": "C.UTF-8",
        "MATPLOTLIBRC": str(rc),
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "PYTHONBREAKPOINT": "0",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "TMPDIR": str(scratch),
    }


class Child:
    """The process of one notebook. A context; the process and all that it began end with it."""

    def __init__(self, cells: Path, keys: Sequence[str], scratch: Path, limits: Limits) -> None:
        self._cells, self._keys, self._scratch, self._limits = cells, keys, scratch, limits
        self._mark = uuid.uuid4().hex
        self._verdict: str | None = None
        self._over = threading.Event()
        self._buffer = bytearray()
        self._reply_by: float | None = None

    def __enter__(self) -> Child:
        their_requests, self._requests = os.pipe()
        self._replies, their_replies = os.pipe()
        command = [
            sys.executable, "-m", "dlcourse.teach.grade_child",
            str(self._cells), " ".join(self._keys), str(their_requests), str(their_replies),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._scratch,
            env={**environment(self._scratch), _MARK: self._mark},
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

    def ask(self, request: dict[str, Any], within: float | None = None) -> dict[str, Any]:
        """Send a request and wait for its reply, ``within`` seconds at most. Raises Ended."""
        self._reply_by = None if within is None else time.monotonic() + within
        self._asked = uuid.uuid4().hex  # so that a reply can't lie there before its request
        data = memoryview((json.dumps({**request, "id": self._asked}) + "\n").encode())
        os.set_blocking(self._requests, False)
        while data:
            self._wait(self._requests, selectors.EVENT_WRITE)
            try:
                data = data[os.write(self._requests, data) :]
            except BrokenPipeError:
                raise Ended(self._how_it_ended()) from None
            except BlockingIOError:
                continue
        return self._receive()

    def _receive(self) -> dict[str, Any]:
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
        except (ValueError, RecursionError):
            raise Ended("the notebook wrote into the grader's channel") from None
        if not isinstance(reply, dict) or reply.get("id") != self._asked:
            raise Ended("the notebook wrote into the grader's channel")
        return reply

    def _wait(self, fd: int, event: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(fd, event)
            while not selector.select(POLL_SECONDS):
                if self._reply_by is not None and time.monotonic() > self._reply_by:
                    self._verdict = self._verdict or "no answer, and it can't be interrupted"
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
            return f"the process died ({signal.Signals(-code).name})"
        return f"the process ended itself (exit code {code})"

    def _watch(self) -> None:
        """End the process when it breaks a limit, until the grader has what it wants."""
        while not self._over.wait(POLL_SECONDS):
            found = self._broken_limit()
            if found:
                self._verdict = found
                self._kill()
                return

    def _broken_limit(self) -> str | None:
        if self._limits.stop.is_set():
            return "the grading was interrupted"
        if time.monotonic() > self._limits.deadline:
            return f"time limit of {self._limits.timeout:g} s"
        processes = self._tree()
        if len(processes) > PROCESS_LIMIT:
            return f"more than {PROCESS_LIMIT} processes"
        limit = self._limits.memory * 2**20
        if _memory(processes, "memory_info", "rss") <= limit:
            return None
        # Forked processes share memory, which the resident size counts for each of them.
        if _memory(processes, "memory_full_info", "pss") <= limit:
            return None
        return f"memory limit of {self._limits.memory:g} MB"

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
            alive = process.pid != os.getpid() and process.environ().get(_MARK) == mark
            if alive and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found
