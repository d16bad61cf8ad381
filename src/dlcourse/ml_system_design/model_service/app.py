"""A ``ModelService`` behind HTTP: a FastAPI application.

Routes: ``/predict``; ``/healthz`` and ``/readyz``, the liveness and readiness probes of Kubernetes;
``/metrics`` in the text format of Prometheus; ``/openapi.json``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from numpy.typing import DTypeLike, NDArray
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from . import _checks
from .errors import BadModelOutput, ModelError, ServiceClosed, ServiceFull, ServiceTimeout
from .http_input import (
    JSON, RAW, BadRequest, json_array, parse_json, raw_array, read_body, request_schema,
)  # fmt: skip
from .service import ModelService

CLIENT_LEFT = 499  # nobody reads it: nginx's number, for the metrics
_log = logging.getLogger(__name__)


class Answer(BaseModel):
    """What ``/predict`` returns."""

    y: Any
    version: str


class Problem(BaseModel):
    """What every refusal returns."""

    detail: str


class State(BaseModel):
    """What the probes return."""

    status: str


def create_app(
    service: ModelService,
    shape: Sequence[int],
    dtype: DTypeLike = np.float32,
    *,
    check: Callable[[NDArray], None] | None = None,
    max_body: int = 1_000_000,
    body_timeout: float = 10.0,
    retry_after: int = 1,
    stuck_after: float = 60.0,
    grace: float | None = None,
) -> FastAPI:
    """The application that answers ``POST /predict`` with ``service.submit``.

    A request is JSON, ``{"x": nested lists}``, or the array's bytes (little-endian, C order) as
    ``application/octet-stream``. The answer is ``{"y": …, "version": …}``. What is wrong with the
    *request* gets a 4xx, what is wrong with the *service* a 5xx, each with ``{"detail": reason}``:

    ======  ==================================================================================
    400     no JSON, no UTF-8, NaN or Infinity (which JSON lacks), a name twice
    408     the body did not come within ``body_timeout``
    413     a body of more than ``max_body`` bytes, refused before it is read to its end
    415     another content type
    422     other names, too deep, wrong shape or kind, out of range, not finite, or ``check``
    500     the model raised on this request alone, or its answer is no finite JSON
    503     the queue is full or the service closed; ``Retry-After`` says when to come back
    504     no answer within the service's ``timeout``
    ======  ==================================================================================

    An exception of the model is a 500, since the request has passed every check: what a client can
    be blamed for belongs into ``check``. The reason of a 500 goes to the log, not to the client. A
    client that leaves cancels its request, which then costs the model nothing if it still waits.

    ``/healthz`` answers 503 when one call of ``predict_fn`` has lasted ``stuck_after`` seconds:
    nothing but a new process helps then. The length of the queue plays no part: to restart what is
    overloaded makes it worse. ``/readyz`` answers 503 while the service is closed or its queue
    full: send requests elsewhere.

    The application opens the service when it starts and closes it when it ends, unless the service
    is open already. Batches form within one process: with n workers of uvicorn there are n models.
    It knows no users and no TLS: these belong to the proxy before it.

    Args:
        service: what answers.
        shape: of one request, all of it: a picture is ``(3, height, width)``, a number ``()``.
        dtype: of one request: floats, integers or booleans.
        check: raises ValueError for an array that the model should not see; the text goes to the
            client, with 422. Called in the event loop, so it must be quick.
        max_body: bytes of a body at most.
        body_timeout: seconds in which a body must have come.
        retry_after: seconds, at least 1, that a refused client is asked to wait.
        stuck_after: seconds of one call of the model after which ``/healthz`` fails.
        grace: at the end, seconds that those who wait may still take; None is no limit.

    Raises TypeError or ValueError for arguments outside of these.
    """
    if not isinstance(service, ModelService):
        raise TypeError(f"service must be a ModelService: got {service!r}")
    if check is not None and not callable(check):
        raise TypeError(f"check must be a function or None: got {check!r}")
    shape = tuple(_checks.count(size, "each size in shape") for size in shape)
    dtype = np.dtype(dtype)
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise TypeError(
            f"dtype must be of floats, integers or booleans of at most 64 bits: got {dtype}"
        )
    max_body = _checks.count(max_body, "max_body")
    body_timeout = _checks.finite(body_timeout, "body_timeout", positive=True)
    again = {"Retry-After": str(_checks.count(retry_after, "retry_after"))}
    stuck_after = _checks.finite(stuck_after, "stuck_after", positive=True)
    if grace is not None:
        grace = _checks.finite(grace, "grace")

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if service.is_open:  # whoever opened it will close it
            yield
            return
        await service.__aenter__()
        try:
            yield
        finally:
            await service.close(grace)

    async def array_of(request: Request) -> NDArray:
        """The request's array. Raises BadRequest."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (JSON, RAW):
            raise BadRequest(415, f"Content-Type must be {JSON} or {RAW}")
        body = await read_body(request.stream(), request.headers, max_body, body_timeout)
        if kind == RAW:
            x = raw_array(body, shape, dtype)
        else:
            x = json_array(parse_json(body, len(shape) + 1), shape, dtype)
        if check is not None:
            try:
                check(x)
            except ValueError as error:
                raise BadRequest(422, str(error)) from None
        return x

    async def answer(request: Request) -> Response:
        """The response, whatever happens."""
        try:
            x = await array_of(request)
            y = await unless_the_client_leaves(request, service.submit(x))
            return _json({"y": _plain(y), "version": service.version}, 200)
        except BadRequest as error:
            return _json({"detail": str(error)}, error.status)
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        except (ServiceFull, ServiceClosed) as error:
            return _json({"detail": str(error)}, 503, again)
        except ServiceTimeout as error:
            return _json({"detail": str(error)}, 504)
        except ModelError:
            _log.exception("a request failed")
            return _json({"detail": "the model failed on this request"}, 500)

    app = FastAPI(title="Model service", lifespan=lifespan, docs_url=None, redoc_url=None)
    metrics = CollectorRegistry()  # of this application, not of the process
    metrics.register(_ServiceMetrics(service))
    seconds = Histogram(
        "http_request_duration_seconds", "Time to answer POST /predict.", ["code"],
        registry=metrics,
    )  # fmt: skip
    body = {
        "required": True,
        "content": {
            JSON: {"schema": request_schema(shape, dtype)},
            RAW: {"schema": {"type": "string", "format": "binary"}},
        },
    }
    refusals = {code: {"model": Problem} for code in (400, 408, 413, 415, 422, 500, 504)}
    wait = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    refusals[503] = {"model": Problem, "headers": wait}

    @app.post("/predict", response_model=Answer, responses=refusals)
    async def predict(request: Request) -> Response:
        """The model's answer for one request."""
        began = time.perf_counter()
        response = await answer(request)
        seconds.labels(response.status_code).observe(time.perf_counter() - began)
        return response

    unavailable = {503: {"model": Problem}}

    @app.get("/healthz", responses=unavailable)
    async def healthz() -> State:
        """Whether the process can go on: liveness."""
        if service.stats().call_seconds > stuck_after:
            raise HTTPException(503, f"a call of the model has lasted more than {stuck_after:g} s")
        return State(status="alive")

    @app.get("/readyz", responses=unavailable)
    async def readyz() -> State:
        """Whether a request would be taken now: readiness."""
        if not service.is_open:
            raise HTTPException(503, "the service is closed")
        if service.stats().queue_length >= service.max_queue:
            raise HTTPException(503, "the queue is full")
        return State(status="ready")

    text = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", response_class=Response, responses=text)
    async def prometheus() -> Response:
        """The counts so far, for Prometheus."""
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    generated = app.openapi

    def openapi() -> dict[str, Any]:
        document = generated()  # FastAPI's own form would round the limits of 64-bit integers
        document["paths"]["/predict"]["post"]["requestBody"] = body
        return document

    app.openapi = openapi  # type: ignore[method-assign]
    return app


async def unless_the_client_leaves(request: Request, answer: Any) -> NDArray:
    """What ``answer`` gives; it is cancelled if the client leaves. Raises ClientDisconnect then."""
    asked = asyncio.ensure_future(answer)
    left = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({asked, left}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise ClientDisconnect
        return asked.result()
    finally:
        asked.cancel()  # nothing, if it is done
        left.cancel()
        await asyncio.wait({asked, left})


async def _left(request: Request) -> None:
    """Return when the client has left; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _plain(y: NDArray) -> Any:
    """An answer as JSON has it. Raises BadModelOutput for one that JSON can't hold."""
    if y.dtype.kind == "f":
        y = y.astype(np.float64)
    if y.dtype.kind not in "fiubU" or (y.dtype.kind == "f" and not np.isfinite(y).all()):
        raise BadModelOutput(f"the answer must be finite numbers or text: got {y.dtype}")
    return y.tolist()


def _json(content: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> Response:
    """ASCII, so that whatever a text holds can be sent."""
    return Response(json.dumps(content, allow_nan=False), status, headers, JSON)


class _ServiceMetrics:
    """A service's counts, read when Prometheus asks: nothing is counted twice."""

    def __init__(self, service: ModelService) -> None:
        self.service = service

    def collect(self) -> Iterable[Metric]:
        """The families, as prometheus_client's registry wants them."""
        stats = self.service.stats()
        requests = CounterMetricFamily(
            "model_requests", "Requests by how they ended.", labels=["outcome"]
        )
        for outcome in ("served", "refused", "failed", "timed_out", "cancelled"):
            requests.add_metric([outcome], getattr(stats, outcome))
        yield requests
        for name, help_text, value in (
            ("model_requests_received", "Valid requests.", stats.received),
            ("model_cache_hits", "Requests answered from the cache.", stats.cache_hits),
            ("model_requests_joined", "Requests that joined an equal one.", stats.joined),
        ):
            yield CounterMetricFamily(name, help_text, value=value)
        for name, help_text, value in (
            ("model_queue_length", "Requests waiting for a batch.", stats.queue_length),
            ("model_requests_waiting", "Requests without an end so far.", stats.waiting),
            ("model_call_seconds", "How long the running call has taken.", stats.call_seconds),
        ):
            yield GaugeMetricFamily(name, help_text, value=value)
        yield _batch_sizes(stats.batch_sizes)


def _batch_sizes(calls: tuple[int, ...]) -> Metric:
    """Calls of the model by batch size, with buckets at powers of two."""
    powers = [2**k for k in range(math.ceil(math.log2(max(len(calls) - 1, 1))) + 1)]
    buckets = [(f"{bound:.1f}", float(sum(calls[: bound + 1]))) for bound in powers]
    return HistogramMetricFamily(
        "model_batch_size", "Requests in a call of the model.",
        buckets=[*buckets, ("+Inf", float(sum(calls)))],
        sum_value=float(sum(n * k for n, k in enumerate(calls))),
    )  # fmt: skip
