"""A model in a process of its own, which can be stopped, and shares no interpreter with the server.

Arrays travel through a pipe in NumPy's ``.npy`` format, errors as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import signal
import socket
import struct
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .errors import ModelProcessDied, ModelProcessError, ModelProcessTimeout

_ARRAY, _ERROR = b"a", b"e"  # the first byte of a message says what follows


class ModelProcess:
    """Calls ``factory(*arguments)(batch)`` in a process of its own; a ``predict_fn``.

        with ModelProcess(load_my_model, "model.safetensors", timeout=5.0) as predict:
            async with ModelService(predict) as service:
                …

    The event loop and a model in a thread take turns at one interpreter; a process has its own.
    And a process can be killed: a call that lasts longer than ``timeout``, or during which the
    process dies, raises, and another process is started at once. Behind a ``ModelService`` each
    request of that batch is then tried alone, so that the one at fault fails alone.

    The process ends with the block, and when this process ends in whatever way. It is killed, so
    nothing that its model has open is closed in order. Not on Windows, whose pipes have no limits.

    Args:
        factory: makes the model: ``(n, *shape) -> (n, *answer_shape)``. Called in the new process,
            which must be able to import it: a function of a module, not of a notebook.
        arguments: for the factory; they are pickled.
        timeout: seconds until an answer comes, or None for no limit.
        start_timeout: seconds in which a process must have made its model.

    Raises TypeError or ValueError for arguments outside of these; ModelProcessError, or one of its
    subclasses, where the model can't be made.
    """

    def __init__(
        self,
        factory: Callable[..., Callable[[NDArray], ArrayLike]],
        *arguments: Any,
        timeout: float | None = None,
        start_timeout: float = 120.0,
    ) -> None:
        if not callable(factory):
            raise TypeError(f"factory must be a function that makes the model: got {factory!r}")
        if timeout is not None:
            timeout = _checks.finite(timeout, "timeout", positive=True)
        self.timeout = timeout
        self.start_timeout = _checks.finite(start_timeout, "start_timeout", positive=True)
        self._make = factory, arguments
        self._lock = threading.Lock()  # one call at a time
        self._closed = False
        try:
            self._start()
        except OSError:
            raise
        except Exception as error:  # pickle's are of many types
            wanted = "factory must be a function of a module, and its arguments data"
            raise TypeError(f"{wanted}, which pickle can send: {error}") from error
        try:
            with self._lock:
                self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process that has the model now."""
        return self._process.pid

    def __call__(self, batch: ArrayLike) -> NDArray:
        """The model's answers.

        Raises ModelProcessError: the model raised, or was closed; ModelProcessTimeout and
        ModelProcessDied: see there.
        """
        with self._lock:
            self._wait_until_ready()
            return _array(self._exchange(_message(batch), self.timeout))

    def close(self) -> None:
        """End the process, and a call that runs with ModelProcessError. Twice is once."""
        self._closed = True
        self._process.kill()  # a call that runs ends now, and gives the lock back
        with self._lock:
            self._end()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks of our threads
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, *self._make), name="model", daemon=True
        )
        self._process.start()
        theirs.close()  # or its end would not be seen here
        self._ready = False
        if self._closed:  # meanwhile, by another thread, which killed the one before
            self._process.kill()

    def _end(self) -> int | None:
        """Kill the process unless it has ended, and leave no zombie. Returns its exit code."""
        self._process.kill()
        self._process.join()
        self._connection.close()
        return self._process.exitcode

    def _wait_until_ready(self) -> None:
        if self._closed:
            raise ModelProcessError("the model's process was closed")
        if not self._ready:
            first = self._exchange(None, self.start_timeout)
            if first[:1] == _ERROR:
                self._replace()
            _array(first)  # raises what the factory raised
            self._ready = True

    def _replace(self) -> int | None:
        code = self._end()
        if not self._closed:
            self._start()
        return code

    def _exchange(self, message: bytes | None, limit: float | None) -> bytes:
        """Send a message, if any, and wait for the next one; replace a process that fails."""
        _limit(self._connection, limit)
        late = False
        try:
            if message is not None:
                self._connection.send_bytes(message)
            return self._connection.recv_bytes()
        except BlockingIOError:
            late = True
        except (EOFError, OSError):
            pass  # it has ended
        except BaseException:  # KeyboardInterrupt: its answer must not meet the next call
            self._replace()
            raise
        code = self._replace()
        if self._closed:
            raise ModelProcessError("the model's process was closed")
        if late:
            raise ModelProcessTimeout(f"no answer within {limit:g} s: its process was killed")
        raise ModelProcessDied(f"the model's process ended with exit code {code}: see its stderr")


def _limit(connection: Connection, seconds: float | None) -> None:
    """Let the kernel end each wait for the other side after so long, with BlockingIOError.

    A timer's thread would need the interpreter's lock several times a call, and wait for it each
    time while the event loop is busy.
    """
    whole, part = divmod(min(seconds or 0.0, 1e9), 1)  # 0 is no limit, and so are 31 years
    time = struct.pack("@ll", int(whole), max(int(1e6 * part), 1 if seconds else 0))  # a timeval
    with socket.socket(fileno=os.dup(connection.fileno())) as end:  # of a pair of sockets
        end.setblocking(True)  # whatever Python's default for new sockets
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            end.setsockopt(socket.SOL_SOCKET, option, time)


def _message(array: ArrayLike) -> bytes:
    """An array as a message. Raises ValueError for Python objects."""
    content = io.BytesIO()
    content.write(_ARRAY)
    np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
    return content.getvalue()


def _array(message: bytes) -> NDArray:
    """The array of a message. Raises ModelProcessError where it is an error."""
    content = io.BytesIO(message)
    if content.read(1) == _ARRAY:
        return np.lib.format.read_array(content, allow_pickle=False)
    text, trace = json.load(content)
    error = ModelProcessError(text)
    error.add_note(trace)
    raise error


def _serve(connection: Connection, factory: Callable, arguments: tuple) -> None:
    """Runs in the model's process, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this one
    with contextlib.suppress(EOFError, OSError):  # of the pipe: nobody is there any more
        try:
            model = factory(*arguments)
        except BaseException as error:
            connection.send_bytes(_failure(error))
            return
        reply = _message(())  # ready
        while True:
            connection.send_bytes(reply)
            batch = _array(connection.recv_bytes())
            try:
                reply = _message(model(batch))
            except BaseException as error:  # SystemExit as well: it travels like the others
                reply = _failure(error)


def _failure(error: BaseException) -> bytes:
    """The error that is being handled, as a message."""
    what = f"{type(error).__name__}: {error}", traceback.format_exc()
    return _ERROR + json.dumps(what).encode()
