"""The one thread that runs the model, so that the event loop stays free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Worker:
    """Runs functions one after the other in a thread of its own, for an event loop.

    A ``ThreadPoolExecutor`` would do, but Python waits for its threads when it ends, and for ever
    if a model hangs. This thread is a daemon.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: SimpleQueue[tuple[asyncio.Future, Callable, tuple] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="model-service", daemon=True)
        self._thread.start()

    def call(self, function: Callable, *arguments: Any) -> asyncio.Future:
        """A future of the loop with what ``function`` returns; it must not raise."""
        future = self._loop.create_future()
        self._calls.put((future, function, arguments))
        return future

    def stop(self) -> None:
        """Let the thread end after the calls that it was given."""
        self._calls.put(None)

    def is_current(self) -> bool:
        """Whether the caller is in this thread."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function, arguments = call
            result = function(*arguments)
            try:
                self._loop.call_soon_threadsafe(resolve, future, result)
            except RuntimeError:  # the loop was closed meanwhile: nobody waits
                return
            del call, future, arguments, result  # hold no batch while waiting for the next


def resolve(future: asyncio.Future, result: Any) -> None:
    """Give a future its result unless it has one or was cancelled: the first outcome counts."""
    if not future.done():
        future.set_result(result)
