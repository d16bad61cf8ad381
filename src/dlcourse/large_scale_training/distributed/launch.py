"""Start the ranks of one machine from a script or a notebook (section 119.1a).

Chapter: ``119_large_scale_training/1a_distributed``.

The work is done by torch's own elastic launcher, the one behind ``torchrun``. What is added here is
what a notebook needs of it: functions defined in a cell, results as a list, the traceback of the
rank that failed first, a time limit that says where each rank was, and nothing left behind.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import math
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["LaunchError", "launch"]

_HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_GRACE = 10.0  # seconds after the time limit in which ranks may still write their stacks
_LOGGERS = ("torch.distributed.elastic", "torch.multiprocessing.spawn")


class LaunchError(RuntimeError):
    """A rank failed. ``rank`` is the one that failed first, ``exitcode`` its exit status
    (negative: the signal that killed it)."""

    def __init__(self, message: str, rank: int, exitcode: int) -> None:
        super().__init__(message)
        self.rank = rank
        self.exitcode = exitcode


def launch(
    fn: Callable[..., Any],
    nproc_per_node: int,
    *args: Any,
    time_limit: float = 300.0,
    max_restarts: int = 0,
) -> list[Any]:
    """Run ``fn(*args)`` in ``nproc_per_node`` new processes of this machine and return their
    results in the order of the ranks.

    Each process has the variables that ``torchrun`` sets (RANK, WORLD_SIZE, ...), so that ``fn``
    can open its process group with ``with distributed() as world:``. ``fn``, ``args`` and the
    results travel by value (cloudpickle): a function defined in a notebook cell works, and changes
    that it makes to the notebook's variables stay in its process. In a script, call ``launch``
    below ``if __name__ == "__main__":``, since each process starts by importing the script.

    Args:
        fn: what every rank runs.
        nproc_per_node: number of processes; with GPUs at most one a GPU.
        args: positional arguments, the same for every rank.
        time_limit: seconds for all of it, restarts included. A rank that reaches it is ended.
        max_restarts: how often all ranks are started again after one fails. ``fn`` finds the
            attempt's number in the variable TORCHELASTIC_RESTART_COUNT, and must continue from
            a checkpoint by itself.

    Raises:
        LaunchError: a rank raised, or died, more than ``max_restarts`` times; the message holds
            the traceback of the first that failed. To leave by ``sys.exit`` or ``os._exit``,
            whatever the status, is to fail: there is no result to return.
        TimeoutError: the time limit was reached; the message holds each rank's stack, and the
            traceback of ranks that had failed before, where others did not let themselves be ended.
        TypeError: ``fn`` is no function, or ``fn`` or ``args`` cannot be pickled.
        ValueError: a count or a limit makes no sense.
    """
    import cloudpickle
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if not callable(fn):
        raise TypeError(f"fn must be a function to run on each rank, got {type(fn).__name__}")
    if not isinstance(nproc_per_node, int) or nproc_per_node < 1:
        raise ValueError(f"nproc_per_node must be a whole number of at least 1: {nproc_per_node!r}")
    if max_restarts < 0 or not 0 < time_limit < math.inf:
        raise ValueError(
            "max_restarts must be >= 0 and time_limit > 0 and finite: "
            f"{max_restarts}, {time_limit}"
        )
    try:
        payload = cloudpickle.dumps((fn, args))
    except Exception as error:
        raise TypeError(
            f"fn and its arguments travel to other processes and one cannot be pickled ({error}); "
            "create such objects (open files, locks, models on a GPU) inside fn"
        ) from error

    deadline = time.time() + time_limit
    with _restored(nproc_per_node), tempfile.TemporaryDirectory(prefix="launch-") as folder:
        reports = Path(folder)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=nproc_per_node,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",  # a free port, not reachable from outside
            local_addr="127.0.0.1",
            rdzv_configs={"timeout": max(1, int(time_limit))},
            max_restarts=max_restarts,
            # Standard output is shown live, standard error only when a rank fails: torch and gloo
            # write harmless warnings to it that would drown a notebook's cell.
            logs_specs=DefaultLogsSpecs(log_dir=folder, redirects=Std.ALL, tee=Std.OUT),
            log_line_prefix_template="[rank ${rank}] ",
        )
        try:
            with _interrupted_at(deadline + _GRACE):
                results = elastic_launch(config, _run_rank)(payload, deadline, folder)
        except ChildFailedError as error:
            raise _explain(error, reports, nproc_per_node, time_limit) from None
        except _TooLateError:
            raise _stopped(reports, nproc_per_node, time_limit) or TimeoutError(
                f"the {nproc_per_node} ranks had given no result {_GRACE:g} s after the limit of "
                f"{time_limit:g} s; a process that ends by itself in C code looks like this"
            ) from None
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise
        return [cloudpickle.loads(results[rank]) for rank in range(nproc_per_node)]


def _run_rank(payload: bytes, deadline: float, folder: str) -> bytes:
    """What each process runs: module-level, so that ``spawn`` can import it by name."""
    import cloudpickle

    _die_with_parent()
    rank = os.environ["RANK"]
    report = Path(folder, f"error-{rank}.txt")
    report.unlink(missing_ok=True)  # of an earlier attempt
    exit_of_python = os._exit
    _report_exits(report)
    # A thread of C code ends the process at the time limit, also when a rank hangs inside a
    # collective with the interpreter locked, and first writes where it was. It is not cancelled
    # when ``fn`` is done: a thread that ``fn`` has left behind must not stretch the limit.
    stack = open(Path(folder, f"stack-{rank}.txt"), "w")  # noqa: SIM115: open to the end
    faulthandler.dump_traceback_later(max(deadline - time.time(), 0.01), exit=True, file=stack)
    try:
        fn, args = cloudpickle.loads(payload)
        result = cloudpickle.dumps(fn(*args))
    except BaseException as error:
        # Text from anywhere may hold what UTF-8 can't encode; it must not be lost for that.
        text = traceback.format_exc().encode("utf8", "backslashreplace")
        report.write_bytes(text)
        if isinstance(error, Exception):
            raise
        # The launcher would take SystemExit(0) and KeyboardInterrupt for an end without a fault,
        # and wait for a result that never comes.
        raise RuntimeError(f"the rank left by {type(error).__name__}") from error
    finally:
        os._exit = exit_of_python
    return result


def _report_exits(report: Path) -> None:
    """Let ``os._exit`` of this process say that it was called, and fail: with status 0 the launcher
    would wait for this rank's result for ever. Children that ``fn`` forks exit as they like."""
    me, leave = os.getpid(), os._exit

    def _exit(status: int) -> NoReturn:
        if os.getpid() != me:
            leave(status)
        where = "".join(traceback.format_stack(limit=8)[:-1])
        text = f"os._exit({status!r}) before the function returned\n{where}"
        report.write_bytes(text.encode("utf8", "backslashreplace"))
        leave(status or 1)

    os._exit = _exit


_WAKE = signal.SIGURG  # ignored by default, and by everybody


class _TooLateError(BaseException):
    """Raised in the thread that waits for the ranks, after the time limit."""


@contextlib.contextmanager
def _interrupted_at(moment: float) -> Iterator[None]:
    """End the launcher's waiting at ``moment``, if ranks could not end themselves (they stopped
    without a result, in C code, or were suspended): torch would wait for ever.

    An exception set from another thread is raised at the next step of the interpreter. Torch may
    not come to one: it waits inside a semaphore for a rank that died while it held it. A signal
    ends such a wait, and its handler is the step. Only the main thread handles signals.
    """
    import ctypes

    waiting, over = threading.get_ident(), threading.Event()
    in_main_thread = threading.current_thread() is threading.main_thread()

    def watch() -> None:
        if not over.wait(max(moment - time.time(), 0)):
            interrupt = ctypes.pythonapi.PyThreadState_SetAsyncExc
            interrupt(ctypes.c_ulong(waiting), ctypes.py_object(_TooLateError))
            if in_main_thread:
                signal.pthread_kill(waiting, _WAKE)

    before = signal.signal(_WAKE, lambda number, frame: None) if in_main_thread else None
    watcher = threading.Thread(target=watch, name="launch-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        if in_main_thread:
            signal.signal(_WAKE, before)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the one that launched it dies, however it dies."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


@contextlib.contextmanager
def _restored(nproc: int) -> Iterator[None]:
    """Set the environment which the ranks inherit; afterwards put back what the launcher changes
    in this process: variables, log levels and, or a notebook could not be interrupted any more,
    the signal handlers."""
    environment = dict(os.environ)
    in_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {s: signal.getsignal(s) for s in _HANDLED_SIGNALS} if in_main_thread else {}
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)  # what they report is in the exception that we raise
    os.environ.update(_rank_environment(nproc, environment))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)


def _rank_environment(nproc: int, environment: dict[str, str]) -> dict[str, str]:
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    threads = int(environment.get("OMP_NUM_THREADS") or cores)
    return {
        # Every rank with as many threads as there are cores is slower than one rank alone.
        "OMP_NUM_THREADS": str(max(1, threads // nproc)),
        # Gloo would look up the host's name, which fails or waits where it does not resolve.
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "5",
    }


def _explain(
    error: Any, reports: Path, nproc: int, time_limit: float
) -> LaunchError | TimeoutError:
    stopped = _stopped(reports, nproc, time_limit)
    if stopped:
        return stopped
    rank, failure = error.get_first_failure()
    reason = _read(reports / f"error-{rank}.txt")
    if not reason and failure.exitcode < 0:
        reason = f"killed by {signal.Signals(-failure.exitcode).name}"
    elif not reason:
        logs = sorted(reports.glob(f"**/{failure.local_rank}/stderr.log"))
        tail = _read(logs[-1])[-2000:] if logs else ""
        reason = f"exit status {failure.exitcode} without an exception\n{tail}"
        if not tail:
            reason += (
                "It ended before the function began. Each process starts by importing the script: "
                "call launch below `if __name__ == \"__main__\":`, in a script that is a file"
            )
    return LaunchError(f"rank {rank} of {nproc} failed: {reason}", rank, failure.exitcode)


def _stopped(reports: Path, nproc: int, time_limit: float) -> TimeoutError | None:
    stacks = {rank: _read(reports / f"stack-{rank}.txt") for rank in range(nproc)}
    if not any(stacks.values()):
        return None
    where = "\n".join(f"rank {rank}:\n{text}" for rank, text in stacks.items() if text)
    raised = [(rank, _read(reports / f"error-{rank}.txt")) for rank in range(nproc)]
    failed = "".join(f"rank {rank} had failed:\n{text}\n" for rank, text in raised if text)
    return TimeoutError(
        f"the {nproc} ranks had not ended after {time_limit:g} s and were stopped; "
        f"raise time_limit, or see where each of them waited:\n{failed}{where}"
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf8", errors="replace") if path.exists() else ""
