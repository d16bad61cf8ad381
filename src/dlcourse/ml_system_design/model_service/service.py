"""A model behind a queue, answering many callers in batches.

Dynamic batching is that of Clipper (Crankshaw et al., 2017, NSDI, section 4.3): take what is
queued when the model is free, or wait a little for more. Everything but the model runs in one
event loop, so that no state needs a lock; the model runs in one thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .cache import AnswerCache
from .errors import (
    BadModelOutput, ModelError, ServiceClosed, ServiceError, ServiceFull, ServiceTimeout,
)  # fmt: skip
from .keys import content_key, frozen, plain_array
from .stats import ServiceStats
from .worker import Worker, resolve

Kind = tuple[np.dtype, tuple[int, ...]]  # requests of one kind can be stacked


@dataclasses.dataclass(eq=False)
class _Job:
    """One computation, with all who wait for it. A caller's future holds an answer or an error."""

    key: str
    array: NDArray
    arrived: float  # s, of the loop's clock
    callers: set[asyncio.Future] = dataclasses.field(default_factory=set)

    @property
    def kind(self) -> Kind:
        return self.array.dtype, self.array.shape

    def wanted(self) -> bool:
        """Whether somebody still waits."""
        return any(not caller.done() for caller in self.callers)


class ModelService:
    """Answers requests from many callers with one model, in batches; open it with ``async with``.

        async with ModelService(model) as service:
            answer = await service.submit(x)        # from the loop that opened it
            # or, in another thread: answer = service.predict(x)

    A request goes through these steps:

    1. An answer in the cache is returned (the key is ``content_key``).
    2. A request equal to one in flight joins it; both get the one answer.
    3. Otherwise it queues, or is refused with ``ServiceFull``.
    4. Requests of the same dtype and shape are stacked when the model is free and either
       ``max_batch_size`` of them are there or the oldest has waited ``max_delay``. With 0, greedy
       batching, the model is never idle while somebody waits.
    5. ``predict_fn`` gets the stack in the service's thread. If it raises, each request of the
       batch is tried once more alone, so that a bad one fails alone, with ``ModelError``.
    6. Answers are kept in the cache, errors are not.

    A caller that leaves (is cancelled, or timed out) takes nobody with it: those who joined get
    their answer. A request that all have left is dropped before it costs the model anything.

    The model decides about NaN: the service passes it on, since to some models it is a missing
    value. A ``predict_fn`` that raises for it fails that request alone.

    Nothing can stop a thread, so nothing stops a ``predict_fn`` that hangs in it. With a
    ``timeout`` its callers get ``ServiceTimeout``, and so do all later ones; ``stats()`` shows it,
    and the process must be started anew. A ``ModelProcess`` as ``predict_fn`` can be stopped.

    Leaving the ``async with`` refuses new requests with ``ServiceClosed`` and answers those
    waiting; ``close`` can do so with a limit. A service is opened once.

    Args:
        predict_fn: ``(n, *shape) -> (n, *answer_shape)``, 1 ≤ n ≤ ``max_batch_size``. An ordinary
            function, for which an answer depends on its own row alone (a network in ``eval`` mode).
            It may be called with batches of any such n, so the last bits of a float can vary.
        max_batch_size: requests in a batch at most.
        max_delay: seconds that the oldest request waits at most for a fuller batch.
        max_queue: requests waiting for a batch at most; joined ones count once. To choose a batch
            each kind that waits is looked at, so its time grows with their number.
        cache_size: answers kept at most, whatever their size: memory for so many must be there. 0
            keeps none.
        timeout: seconds from a request to its answer, or None for no limit.
        version: of the model; part of the key.

    Raises TypeError or ValueError for arguments outside of these.
    """

    def __init__(
        self,
        predict_fn: Callable[[NDArray], ArrayLike],
        max_batch_size: int = 32,
        max_delay: float = 0.005,
        max_queue: int = 1024,
        cache_size: int = 10_000,
        timeout: float | None = None,
        version: str = "",
    ) -> None:
        if not callable(predict_fn) or _is_async(predict_fn):
            raise TypeError(
                "predict_fn must be an ordinary function, since it runs in a thread: "
                f"got {predict_fn!r}"
            )
        if not isinstance(version, str):
            raise TypeError(f"version must be a string: got {version!r}")
        self.predict_fn = predict_fn
        self.max_batch_size = _checks.count(max_batch_size, "max_batch_size")
        self.max_delay = _checks.finite(max_delay, "max_delay")
        self.max_queue = _checks.count(max_queue, "max_queue")
        if timeout is not None:
            timeout = _checks.finite(timeout, "timeout", positive=True)
        self.timeout = timeout
        self.version = version
        self._cache = AnswerCache(_checks.count(cache_size, "cache_size", least=0))
        self._queues: dict[Kind, OrderedDict[str, _Job]] = {}  # oldest first; none is empty
        self._in_flight: dict[str, _Job] = {}  # queued or in the batch that runs
        self._counts = dict.fromkeys(
            ("received", "served", "refused", "failed", "timed_out", "cancelled", "hits", "joined"),
            0,
        )
        self._batch_sizes = [0] * (self.max_batch_size + 1)
        self._loop: asyncio.AbstractEventLoop | None = None
        # Callers in other threads, and whether they may still come: the only shared state.
        self._lock = threading.Lock()
        self._open = False
        self._from_threads: set[concurrent.futures.Future] = set()
        self._call_began: float | None = None  # s of the loop's clock, while predict_fn runs

    # Opening and closing

    @property
    def is_open(self) -> bool:
        """Whether requests are taken: opened, and not yet closed."""
        return self._open

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("a ModelService is opened once: make a new one")
        loop = asyncio.get_running_loop()
        self._worker = Worker(loop)
        self._loop = loop
        self._changed = asyncio.Event()  # there may be a batch to take
        self._batcher = asyncio.create_task(self._serve())
        self._open = True
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Refuse new requests, and answer those that wait.

        Args:
            grace: seconds after which those still waiting are refused with ``ServiceClosed``;
                None waits for all. A call of ``predict_fn`` that nobody waits for is not waited
                for: its thread ends when it returns.

        Raises RuntimeError if called in another loop than the one that opened the service.
        """
        if grace is not None:
            grace = _checks.finite(grace, "grace")
        self._check_loop()
        with self._lock:
            self._open = False
            threads = [asyncio.wrap_future(future) for future in self._from_threads]
        other_threads = asyncio.gather(*threads, return_exceptions=True)
        self._changed.set()
        waiting = [caller for job in self._in_flight.values() for caller in job.callers]
        try:
            await asyncio.wait([*waiting, other_threads], timeout=grace)
        finally:
            self._batcher.cancel()  # which refuses what is left
            self._worker.stop()
            await asyncio.wait([self._batcher, other_threads])  # their refusals have got there

    def _check_loop(self) -> None:
        if self._loop is None:
            raise ServiceClosed("the service is not open: use `async with ModelService(…)`")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "the service belongs to another event loop: in that thread await submit(x); "
                "in others call predict(x)"
            )

    # Requests

    async def submit(self, x: ArrayLike) -> NDArray:
        """The model's answer for one request, of the shape of one row; read-only.

        Args:
            x: one request, without the batch axis. It is copied: change it afterwards as you like.

        Raises:
            ServiceFull, ServiceTimeout, ServiceClosed, ModelError, BadModelOutput: see there.
            TypeError, ValueError: ``x`` is no array of plain values.
            RuntimeError: the service was opened in another event loop.
        """
        array = frozen(plain_array(x))
        key = content_key(array, self.version)
        self._check_loop()
        self._counts["received"] += 1
        if not self._open:
            self._counts["refused"] += 1
            raise ServiceClosed("the service is closed: it takes no more requests")
        answer = self._cache.get(key)
        if answer is not None:
            self._counts["hits"] += 1
            self._counts["served"] += 1
            return answer
        job = self._in_flight.get(key)
        if job is not None:
            self._counts["joined"] += 1
        elif self._queue_length() >= self.max_queue:
            self._counts["refused"] += 1
            raise ServiceFull(f"{self.max_queue} requests are waiting: try again later")
        else:
            job = self._enqueue(key, array)
        return await self._outcome(job)

    def predict(self, x: ArrayLike) -> NDArray:
        """As ``submit``, for a caller in another thread than the event loop's: blocks until then.

        Raises:
            RuntimeError: called in the loop's thread or by ``predict_fn``, where it would wait for
                itself; and what ``submit`` raises.
        """
        if self._loop is not None and (_running_loop() is self._loop or self._worker.is_current()):
            raise RuntimeError(
                "predict(x) would block the thread that must answer it: in the event loop use "
                "`await service.submit(x)`; predict_fn must not ask its own service"
            )
        with self._lock:  # while the service is open, the loop is there to take the call
            if not self._open:
                raise ServiceClosed("the service is not open: it takes no requests")
            future = asyncio.run_coroutine_threadsafe(self.submit(x), self._loop)
            self._from_threads.add(future)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ServiceClosed("the service closed before the answer came") from None
        finally:
            future.cancel()  # after KeyboardInterrupt; otherwise it is done and stays so
            with self._lock:
                self._from_threads.discard(future)

    def stats(self) -> ServiceStats:
        """Counts so far. Exact in the loop's thread; in another one, requests may be on the way."""
        counts = dict(self._counts)
        began = self._call_began
        return ServiceStats(
            call_seconds=0.0 if began is None else self._loop.time() - began,
            cache_hits=counts.pop("hits"),
            queue_length=self._queue_length(),
            batch_sizes=tuple(self._batch_sizes),
            **counts,
        )

    async def _outcome(self, job: _Job) -> NDArray:
        """Wait for a job as one of its callers. Whoever resolves the future first decides."""
        caller = self._loop.create_future()
        job.callers.add(caller)
        timer = None
        if self.timeout is not None:
            late = ServiceTimeout(f"no answer within {self.timeout} s")
            timer = self._loop.call_later(self.timeout, resolve, caller, late)
        try:
            outcome = await caller
        except asyncio.CancelledError:
            self._counts["cancelled"] += 1
            raise
        finally:
            if timer is not None:
                timer.cancel()
            job.callers.discard(caller)
            if not job.callers:
                self._dequeue(job)  # unless it is in a batch already
        match outcome:
            case ServiceTimeout():
                self._counts["timed_out"] += 1
            case ServiceClosed():
                self._counts["refused"] += 1
            case ModelError():
                self._counts["failed"] += 1
            case _:
                self._counts["served"] += 1
                return outcome
        # Callers of one job get an exception each: a traceback belongs to one task.
        raise type(outcome)(*outcome.args) from outcome.__cause__

    # The queue: one for each kind of request

    def _queue_length(self) -> int:
        return sum(len(queue) for queue in list(self._queues.values()))

    def _enqueue(self, key: str, array: NDArray) -> _Job:
        job = _Job(key, array, self._loop.time())
        self._in_flight[key] = job
        self._queues.setdefault(job.kind, OrderedDict())[key] = job
        self._changed.set()
        return job

    def _dequeue(self, job: _Job) -> None:
        """Drop a job that waits in the queue; one that is not there stays as it is."""
        queue = self._queues.get(job.kind, {})
        if queue.get(job.key) is job:
            del queue[job.key]
            del self._in_flight[job.key]
            if not queue:
                del self._queues[job.kind]

    def _ready_at(self, queue: OrderedDict[str, _Job]) -> float:
        """When its next batch may start, in s of the loop's clock; now or earlier is at once."""
        oldest = next(iter(queue.values())).arrived
        if len(queue) >= self.max_batch_size or not self._open:
            return oldest
        return oldest + self.max_delay

    async def _next_batch(self) -> list[_Job]:
        """Wait until a batch may start, and take it."""
        while True:
            # The queue that could have started first goes first, so that no kind starves.
            queue = min(self._queues.values(), key=self._ready_at, default=None)
            if queue is not None and self._ready_at(queue) <= self._loop.time():
                if batch := self._take(queue):
                    return batch
                continue
            self._changed.clear()
            timer = None
            if queue is not None:
                timer = self._loop.call_at(self._ready_at(queue), self._changed.set)
            await self._changed.wait()
            if timer is not None:
                timer.cancel()

    def _take(self, queue: OrderedDict[str, _Job]) -> list[_Job]:
        """The oldest jobs of a queue, at most a batch; those that all have left are dropped."""
        batch: list[_Job] = []
        while queue and len(batch) < self.max_batch_size:
            _, job = queue.popitem(last=False)
            if job.wanted():
                batch.append(job)
            else:
                del self._in_flight[job.key]
            if not queue:
                del self._queues[job.kind]
        return batch

    # Batches

    async def _serve(self) -> None:
        """Take batches and answer them, one after the other, until cancelled."""
        try:
            while True:
                await self._answer(await self._next_batch())
        finally:  # closed; or something went wrong here, and then nobody shall wait for ever
            self._open = False
            left = list(self._in_flight.values())
            self._queues.clear()
            self._finish(left, ServiceClosed("the service closed before the answer came"))

    async def _answer(self, batch: list[_Job]) -> None:
        """Run a batch; a function of its own, so that nothing holds it while the next comes."""
        outcomes = await self._call(batch)
        if len(batch) > 1 and type(outcomes) is ModelError:  # it raised
            await self._one_by_one(batch)
        else:
            self._finish(batch, outcomes)

    async def _one_by_one(self, batch: list[_Job]) -> None:
        """The second and last try of a batch that raised."""
        for job in batch:
            if job.wanted():
                self._finish([job], await self._call([job]))
            else:
                self._in_flight.pop(job.key)

    async def _call(self, batch: list[_Job]) -> list[NDArray] | ModelError:
        """The model's answers, or what went wrong."""
        self._batch_sizes[len(batch)] += 1
        self._call_began = self._loop.time()
        try:
            return await self._worker.call(_answers, self.predict_fn, [job.array for job in batch])
        finally:
            self._call_began = None

    def _finish(self, batch: list[_Job], outcomes: list[NDArray] | ServiceError) -> None:
        """Give each job of a batch its answer, or all the same error."""
        if isinstance(outcomes, ServiceError):
            outcomes = [outcomes] * len(batch)
        for job, outcome in zip(batch, outcomes, strict=True):
            self._in_flight.pop(job.key)
            if not isinstance(outcome, ServiceError):
                self._cache.put(job.key, outcome)
            for caller in job.callers:
                resolve(caller, outcome)


def _answers(predict_fn: Callable, arrays: list[NDArray]) -> list[NDArray] | ModelError:
    """Runs in the worker's thread: n requests to n answers. Errors are returned, never raised."""
    try:
        # A new array each time: a model that writes into its input spoils no second try.
        output: Any = predict_fn(np.stack(arrays))  # (n, *shape) -> (n, *answer_shape)
    except BaseException as error:  # SystemExit as well: the thread must go on
        return _caused(ModelError(f"the model raised {type(error).__name__}: {error}"), error)
    wanted = f"predict_fn must return an array of {len(arrays)} answers, one a row"
    try:
        rows = np.asarray(output)
        if rows.dtype.hasobject or rows.ndim == 0 or len(rows) != len(arrays):
            return BadModelOutput(f"{wanted}: got dtype {rows.dtype}, shape {rows.shape}")
        return [frozen(rows[i, ...]) for i in range(len(rows))]
    except Exception as error:  # ragged rows; a tensor on a GPU, or one that requires grad
        return _caused(BadModelOutput(f"{wanted}: {error}"), error)


def _caused(failure: ModelError, cause: BaseException) -> ModelError:
    """``failure`` with its cause; the function that caught it keeps no name for it, and no cycle
    of error, traceback and frame holds the batch in memory."""
    failure.__cause__ = cause
    return failure


def _is_async(function: Callable) -> bool:
    """Whether a call gives a coroutine or an asynchronous generator, and no answer."""
    called = function, type(function).__call__  # the second is that of an object's class
    return any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in called)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
