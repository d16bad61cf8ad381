"""Facts about the service behind HTTP: section 123.2a.

Most requests go to the application in this process (httpx's ASGI transport). Time-outs of an hour
pass because the event loop's clock is moved. What needs sockets, signals or a killed process runs
a server in a process of its own, on the loopback interface.
"""

import ast
import asyncio
import collections
import contextlib
import http.client
import json
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import dlcourse.ml_system_design
from dlcourse.ml_system_design import ModelService, create_app, poisson_arrivals
from dlcourse.ml_system_design.experiments.http_load import load, serving
from dlcourse.ml_system_design.model_service.http_input import (
    BadRequest, json_array, nesting, read_body,
)  # fmt: skip

HOUR = 3600.0


class MovableLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be moved forward."""

    moved = 0.0

    def time(self):
        return super().time() + self.moved


def run(main):
    """Run a coroutine; one that hangs fails after 25 s of real time."""

    async def guarded():
        task = asyncio.current_task()
        stop = threading.Timer(25, loop.call_soon_threadsafe, [task.cancel, "it hangs"])
        stop.daemon = True
        stop.start()
        try:
            return await main
        finally:
            stop.cancel()

    with asyncio.Runner(loop_factory=MovableLoop) as runner:
        loop = runner.get_loop()
        return runner.run(guarded())


async def settle():
    """Let everything happen that needs no other thread."""
    for _ in range(50):
        await asyncio.sleep(0)


async def pass_time(seconds):
    await settle()
    asyncio.get_running_loop().moved += seconds
    await settle()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


class Model:
    """Doubles its input, raises for 13; waits at the gate when it is shut."""

    def __init__(self, gate_open=True):
        self.gate = threading.Event()
        self.batches = []
        if gate_open:
            self.gate.set()

    def __call__(self, batch):
        self.batches.append(batch.copy())
        assert self.gate.wait(20)
        if (batch == 13).any():
            raise RuntimeError("a secret of the model")
        return 2 * batch

    def seen(self):
        return [x for batch in self.batches for x in batch.ravel().tolist()]


@contextlib.asynccontextmanager
async def client_of(model, shape=(), dtype="float64", service=None, **options):
    """A client of the application, and the open service."""
    async with ModelService(model, **{"max_delay": 0, **(service or {})}) as opened:
        app = create_app(opened, shape, dtype, **options)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client, opened


def post(client, x):
    return client.post("/predict", json={"x": x})


def outcome(response):
    return response.status_code, response.json()


# Answers


@pytest.mark.parametrize(
    "shape, dtype, x, y",
    [
        ((), "float64", 1.5, 3.0),
        ((), "float64", 4, 8.0),  # JSON has one kind of number
        ((2, 3), "float32", [[1, 2, 3], [4, 5, 6.5]], [[2, 4, 6], [8, 10, 13]]),
        ((2,), "uint8", [0, 255], [0, 254]),  # and 2 · 255 is 254 in uint8
        ((1,), "int64", [2.0], [4]),
        ((2,), "int64", [-(2**62), 2**61], [-(2**63), 2**62]),  # more digits than a float64 has
        ((3,), "float16", [0.1, 0, -1], [2 * float(np.float16(0.1)), 0, -2]),
    ],
)
def test_a_request_gets_the_models_answer(shape, dtype, x, y):
    async def main():
        async with client_of(Model(), shape, dtype, dict(version="7")) as (client, _):
            raw = np.array(x, np.dtype(dtype).newbyteorder("<")).tobytes()
            kind = {"content-type": "application/octet-stream"}
            return await post(client, x), await client.post("/predict", content=raw, headers=kind)

    for response in run(main()):
        assert outcome(response) == (200, {"y": y, "version": "7"})


def test_booleans_go_in_and_out():
    async def main():
        async with client_of(np.logical_not, (2,), bool) as (client, _):
            raw = await client.post(
                "/predict", content=b"\0\1", headers={"content-type": "application/octet-stream"}
            )
            return await post(client, [False, True]), raw

    for response in run(main()):
        assert outcome(response) == (200, {"y": [True, False], "version": ""})


def test_each_of_500_concurrent_clients_gets_its_own_answer_in_batches():
    model = Model()

    async def main():
        async with client_of(model, (2,)) as (client, service):
            replies = await asyncio.gather(*(post(client, [i, i + 0.5]) for i in range(20, 520)))
            return [reply.json()["y"] for reply in replies], service.stats()

    answers, stats = run(main())
    assert answers == [[2 * i, 2 * i + 1] for i in range(20, 520)]
    assert stats.served == 500 and len(model.batches) < 500


# Refusals: what is wrong with the request

REFUSED = [
    (b"", 400, "valid JSON"),
    (b"{", 400, "valid JSON"),
    (b'{"x": [1, 2,]}', 400, "valid JSON"),
    (b'{"x": [1, NaN]}', 400, "no NaN or Infinity"),
    (b'{"x": [-Infinity, 1]}', 400, "no NaN or Infinity"),
    (b'{"x": [1, 2], "x": [3, 4]}', 400, "twice"),
    (b"\xff\xfe", 400, "UTF-8"),
    ('{"x": [1, 2]}'.encode("utf-16"), 400, "UTF-8"),
    (b"\xef\xbb\xbf" + b'{"x": [1, 2]}', 400, "valid JSON"),  # a byte order mark
    (b'{"x": [' + b"1" * 5000 + b", 2]}", 400, "valid JSON"),  # more digits than Python reads
    (b"[" * 100_000, 422, "nested deeper than 2"),
    (b'{"x":' * 30_000 + b"1" + b"}" * 30_000, 422, "nested deeper than 2"),
    (b'{"x": [[1], 2]}', 422, "nested deeper than 2"),
    (b"null", 422, 'one name "x"'),
    (b"[1, 2]", 422, 'one name "x"'),
    (b"{}", 422, 'one name "x"'),
    (b'{"x": [1, 2], "y": 3}', 422, 'one name "x"'),
    (b'{"\\ud800": [1, 2]}', 422, 'one name "x"'),
    (b'{"x": 1}', 422, "axis 0 must be 2 long"),
    (b'{"x": []}', 422, "axis 0 must be 2 long"),
    (b'{"x": [1, 2, 3]}', 422, "axis 0 must be 2 long"),
    (b'{"x": "12"}', 422, "axis 0 must be 2 long"),
    (b'{"x": [1, "2"]}', 422, "must hold numbers at depth 1: got a string"),
    (b'{"x": [1, true]}', 422, "got true or false"),
    (b'{"x": [1, null]}', 422, "got null"),
    (b'{"x": [1, {}]}', 422, "nested deeper than 2"),
    (b'{"x": [1, 1e999]}', 422, "finite in float32"),
    (b'{"x": [1, 1e39]}', 422, "finite in float32"),
    (b'{"x": [1, -1' + b"0" * 400 + b"]}", 422, "finite in float32"),
    (b'{"x": [1, 2]}' + b" " * 200_000, 413, "at most 200000 bytes"),
]


@pytest.mark.parametrize("body, status, reason", REFUSED)
def test_a_bad_request_is_refused_with_a_reason_before_the_service_sees_it(body, status, reason):
    model = Model()

    async def main():
        async with client_of(model, (2,), "float32", max_body=200_000) as (client, service):
            kind = {"content-type": "application/json"}
            reply = await client.post("/predict", content=body, headers=kind)
            return reply, service.stats()

    reply, stats = run(main())
    assert reply.status_code == status and reason in reply.json()["detail"]
    assert reply.json().keys() == {"detail"} and len(reply.content) < 200
    assert stats.received == 0 and not model.batches


@pytest.mark.parametrize(
    "dtype, x, reason",
    [
        ("uint8", 256, "from 0 to 255"),
        ("uint8", -1, "from 0 to 255"),
        ("int64", 2**63, f"to {2**63 - 1}"),
        ("int64", 10**400, f"to {2**63 - 1}"),
        ("int32", 1.5, "whole numbers, since it is int32"),
        ("int32", True, "got true or false"),
        ("bool", 1, "must hold true or false at depth 0: got a number"),
        ("float16", 70_000, "finite in float16"),
    ],
)
def test_a_value_that_the_dtype_does_not_hold_is_refused(dtype, x, reason):
    async def main():
        async with client_of(Model(), (), dtype) as (client, _):
            return await post(client, x)

    reply = run(main())
    assert reply.status_code == 422 and reason in reply.json()["detail"]


def slow_json_array(value, shape, dtype):
    """``json_array`` entry by entry: the form to read, in which each refusal can be seen."""
    if type(value) is not dict or list(value) != ["x"]:
        raise BadRequest(422, 'the body must be an object with the one name "x"')
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    wanted = "true or false" if dtype.kind == "b" else "numbers"
    levels = [[value["x"]]]
    for axis, size in enumerate(shape):
        for row in levels[-1]:
            if type(row) is not list or len(row) != size:
                raise BadRequest(422, f"x must have shape {shape}: axis {axis} must be {size} long")
        levels.append([entry for row in levels[-1] for entry in row])
    for entry in levels[-1]:
        if (type(entry) is bool) != (dtype.kind == "b") or not isinstance(entry, int | float):
            raise BadRequest(422, f"x must hold {wanted} at depth {len(shape)}")
    if limits is not None:
        for entry in levels[-1]:
            if isinstance(entry, float) and not entry.is_integer():
                raise BadRequest(422, f"x must hold whole numbers, since it is {dtype.name}")
        for entry in levels[-1]:
            if not limits.min <= entry <= limits.max:
                raise BadRequest(422, f"x must hold numbers from {limits.min} to {limits.max}")
        return np.array([int(entry) for entry in levels[-1]], dtype).reshape(shape)
    array = np.zeros(len(levels[-1]), dtype)
    for i, entry in enumerate(levels[-1]):
        with contextlib.suppress(OverflowError), np.errstate(over="ignore"):
            array[i] = float(entry)  # as float64 first
            if np.isfinite(array[i]):
                continue
        raise BadRequest(422, f"x must hold numbers that are finite in {dtype.name}")
    return array.reshape(shape)


EDGES = (
    *(sign * 2**k + d for k in (7, 8, 31, 32, 53, 63, 64) for sign in (1, -1) for d in (-1, 0, 1)),
    0, 1, -1, 0.0, -0.0, 1.0, 1.5, 3.4e38, 3.5e38, 65519.9, 65520, 1e999, -1e999, 1e300, 2.0**53,
    10**400, -(10**400), True, False, None, "1", "", {}, {"x": 1}, [], [1], [[1, 2]],
)  # fmt: skip
DTYPES = ("bool", "uint8", "int8", "int32", "uint32", "int64", "uint64", "float16", "float32",
          "float64")  # fmt: skip


def random_request(rng, shape, plain):
    """A nested list, now and then with a wrong length, kind or value somewhere."""
    if rng.random() < 0.02:
        return plain()
    if not shape:
        return EDGES[rng.integers(len(EDGES))] if rng.random() < 0.05 else plain()
    size = shape[0] + (rng.random() < 0.02) - (rng.random() < 0.02)
    return [random_request(rng, shape[1:], plain) for _ in range(size)]


def test_the_fast_form_takes_and_refuses_what_the_slow_form_does_and_for_the_same_reason():
    rng = np.random.default_rng(0)
    counted = collections.Counter()
    for _ in range(6000):
        dtype = np.dtype(DTYPES[rng.integers(len(DTYPES))])
        shape = tuple(map(int, rng.integers(1, 4, size=rng.integers(4))))
        if dtype.kind == "b":
            plain = lambda: bool(rng.integers(2))  # noqa: E731
        elif rng.random() < 0.5:
            plain = lambda: float(rng.integers(100))  # noqa: E731
        else:
            plain = lambda: int(rng.integers(100))  # noqa: E731
        value = {"x": random_request(rng, shape, plain)}
        if rng.random() < 0.02:
            value["y"] = 1
        try:
            wanted, reason = slow_json_array(value, shape, dtype), None
        except BadRequest as error:
            wanted, reason = None, str(error)
        try:
            got = json_array(value, shape, dtype)
            assert reason is None, (value, shape, dtype, reason)
            assert got.dtype == dtype and got.shape == shape
            assert got.tobytes() == wanted.tobytes(), (value, dtype)
        except BadRequest as error:
            assert reason and str(error).startswith(reason), (value, shape, dtype, reason, error)
        words = (reason or "taken").replace("x must hold", "").split()
        counted[" ".join(words[:2])] += 1
    assert len(counted) >= 7 and min(counted.values()) >= 20, counted


@pytest.mark.parametrize(
    "dtype, body, reason",
    [
        ("float32", b"1234567", "8 bytes: shape (2,) of float32"),
        ("float32", b"", "8 bytes"),
        ("float32", np.array([1, np.nan], "<f4").tobytes(), "finite"),
        ("float32", np.array([1, -np.inf], "<f4").tobytes(), "finite"),
        ("bool", b"\1\2", "a byte 0 or 1"),
    ],
)
def test_raw_bytes_are_checked_too(dtype, body, reason):
    async def main():
        async with client_of(Model(), (2,), dtype) as (client, _):
            kind = {"content-type": "application/octet-stream"}
            return await client.post("/predict", content=body, headers=kind)

    reply = run(main())
    assert reply.status_code == 422 and reason in reply.json()["detail"]


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/jsonp", "multipart/form-data"]
)
def test_another_content_type_is_refused(kind):
    async def main():
        async with client_of(Model()) as (client, _):
            headers = {} if kind is None else {"content-type": kind}
            ok = {"content-type": "Application/JSON; charset=utf-8"}
            return (
                await client.post("/predict", content=b'{"x": 1}', headers=headers),
                await client.post("/predict", content=b'{"x": 1}', headers=ok),
            )

    refused, taken = run(main())
    assert refused.status_code == 415 and taken.status_code == 200


def test_a_check_of_ones_own_refuses_with_its_words_whatever_they_are():
    def positive(x):
        if (x < 0).any():
            raise ValueError("x must not be negative \ud800")

    async def main():
        async with client_of(Model(), check=positive) as (client, service):
            return await post(client, -1), await post(client, 1), service.stats()

    refused, taken, stats = run(main())
    assert outcome(refused) == (422, {"detail": "x must not be negative \ud800"})
    assert taken.status_code == 200 and stats.received == 1


def scope(headers=()):
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "path": "/predict", "raw_path": b"/predict", "query_string": b"", "scheme": "http",
        "server": ("test", 80), "root_path": "",
        "headers": [(b"content-type", b"application/json"), *headers],
    }  # fmt: skip


async def call(app, receive, headers=()):
    """Status and body that the application sends to one request."""
    sent = []

    async def send(message):
        sent.append(message)

    await app(scope(headers), receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("length, status", [(b"1001", 413), (b"9" * 19, 413), (b"x", 400)])
def test_a_body_that_announces_too_much_is_refused_unread(length, status):
    async def receive():
        raise AssertionError("the body was read")

    async def main():
        async with ModelService(Model()) as service:
            app = create_app(service, (), max_body=1000)
            return await call(app, receive, [(b"content-length", length)])

    assert run(main())[0] == status


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"10")]])
def test_a_body_without_an_end_is_read_no_further_than_the_limit(headers):
    read = 0

    async def receive():
        nonlocal read
        read += 100
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    async def main():
        async with ModelService(Model()) as service:
            return await call(create_app(service, (), max_body=1000), receive, headers)

    assert run(main())[0] == 413 and read == 1100


def test_a_body_that_does_not_come_in_time_is_refused():
    async def receive():
        await asyncio.sleep(HOUR)

    async def main():
        async with ModelService(Model()) as service:
            app = create_app(service, (), body_timeout=60)
            task = asyncio.create_task(call(app, receive))
            await pass_time(59)
            assert not task.done()
            await pass_time(2)
            return await task

    assert run(main()) == (408, b'{"detail": "the body must come within 60 s"}')


def depth(value):
    """How deep a JSON value is, by going through it."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


JSON_VALUES = st.recursive(
    st.none() | st.integers() | st.text('[]{}"\\a\né'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\'), inner, max_size=3)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON_VALUES, st.booleans())
def test_nesting_is_the_depth_of_the_value_whatever_its_strings_hold(value, ascii_only):
    assert nesting(json.dumps(value, ensure_ascii=ascii_only).encode()) == depth(value)


def test_the_time_to_find_the_nesting_grows_with_the_length_only():
    def cpu(body):
        start = time.process_time()
        nesting(body)
        return time.process_time() - start

    for piece in (b'"', b'\\"', b'"\\', b'["', b"[", b'{"a":'):
        assert cpu(piece * (1_000_000 // len(piece))) < 1.0  # quadratic would be minutes


def test_reading_a_body_stops_at_the_first_chunk_too_many():
    taken = []

    async def chunks():
        for i in range(100):
            taken.append(i)
            yield b"x" * 10

    with pytest.raises(BadRequest) as caught:
        run(read_body(chunks(), {}, max_body=25, timeout=1))
    assert caught.value.status == 413 and taken == [0, 1, 2]


# Refusals: what is wrong with the service


def test_a_full_queue_is_a_503_that_says_when_to_come_back_and_readyz_tells_it():
    model = Model(gate_open=False)

    async def main():
        options = dict(max_queue=2, max_batch_size=1)
        async with client_of(model, service=options, retry_after=7) as (client, _):
            before = await client.get("/readyz")
            first = asyncio.create_task(post(client, 0))
            await until(lambda: model.batches)
            taken = [asyncio.create_task(post(client, x)) for x in (1, 2)]
            await settle()
            refused, full = await post(client, 3), await client.get("/readyz")
            alive = await client.get("/healthz")
            model.gate.set()
            answers = [reply.json()["y"] for reply in await asyncio.gather(first, *taken)]
            return before, refused, full, alive, answers, await client.get("/readyz")

    before, refused, full, alive, answers, after = run(main())
    assert outcome(before) == outcome(after) == (200, {"status": "ready"})
    assert outcome(refused) == (503, {"detail": "2 requests are waiting: try again later"})
    assert refused.headers["retry-after"] == "7"
    assert outcome(full) == (503, {"detail": "the queue is full"})
    assert outcome(alive) == (200, {"status": "alive"})  # overload is no reason to be restarted
    assert answers == [0, 2, 4]  # who was taken is answered


def test_a_closed_service_is_a_503_and_not_ready_but_alive():
    async def main():
        async with client_of(Model()) as (client, service):
            await service.close()
            return (
                await post(client, 1), await client.get("/readyz"), await client.get("/healthz")
            )  # fmt: skip

    refused, ready, alive = run(main())
    assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
    assert outcome(ready) == (503, {"detail": "the service is closed"})
    assert alive.status_code == 200


def test_a_model_that_hangs_is_a_504_and_in_the_end_healthz_asks_for_a_new_process():
    model = Model(gate_open=False)

    async def main():
        async with client_of(model, service=dict(timeout=30), stuck_after=60) as (client, service):
            asked = asyncio.create_task(post(client, 1))
            await until(lambda: model.batches)
            await pass_time(31)
            late = await asked
            before = await client.get("/healthz")
            await pass_time(30)
            after = await client.get("/healthz")
            model.gate.set()
            await until(lambda: service.stats().call_seconds == 0)
            return late, before, after, await client.get("/healthz")

    late, before, after, again = run(main())
    assert outcome(late) == (504, {"detail": "no answer within 30.0 s"})
    assert before.status_code == again.status_code == 200
    assert outcome(after) == (503, {"detail": "a call of the model has lasted more than 60 s"})


def test_an_error_of_the_model_is_a_500_for_its_request_alone_and_tells_no_secret(caplog):
    model = Model(gate_open=False)

    async def main():
        async with client_of(model) as (client, _):
            first = asyncio.create_task(post(client, -1))
            await until(lambda: model.batches)
            rest = [asyncio.create_task(post(client, x)) for x in (12, 13, 14)]
            await settle()
            model.gate.set()
            return await asyncio.gather(first, *rest)

    replies = run(main())
    assert len(model.batches[1]) == 3  # they were in one batch
    assert [reply.status_code for reply in replies] == [200, 200, 500, 200]
    assert [reply.json().get("y") for reply in replies] == [-2, 24, None, 28]
    assert replies[2].json() == {"detail": "the model failed on this request"}
    assert "a secret of the model" in caplog.text  # for those who run it


@pytest.mark.parametrize(
    "model",
    [
        lambda batch: batch[:-1],  # of another length
        lambda batch: None,
        lambda batch: batch * np.nan,
        lambda batch: batch / 0.0,
        lambda batch: batch + 1j,
        lambda batch: batch.astype("M8[s]"),
        lambda batch: np.full(len(batch), b"\xff"),
        lambda batch: [object()] * len(batch),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_an_output_that_json_cannot_hold_is_a_500_and_the_service_goes_on(model):
    async def main():
        async with client_of(lambda x: model(x) if x[0] else 2 * x) as (client, _):
            return await post(client, 1), await post(client, 0)

    failed, fine = run(main())
    assert outcome(failed) == (500, {"detail": "the model failed on this request"})
    assert outcome(fine) == (200, {"y": 0.0, "version": ""})


def test_text_as_an_answer_arrives_even_if_utf8_cannot_say_it():
    async def main():
        async with client_of(lambda x: np.full(len(x), "caf\u00e9 \ud800")) as (client, _):
            return await post(client, 1)

    assert run(main()).json()["y"] == "caf\u00e9 \ud800"


# Clients that leave, and the end


def test_a_client_that_leaves_while_it_waits_costs_the_model_nothing():
    model = Model(gate_open=False)

    async def main():
        async with ModelService(model, max_batch_size=1, max_delay=0) as service:
            app = create_app(service, ())
            leaving = asyncio.Event()

            def messages(x):
                body = json.dumps({"x": x}).encode()
                first = [{"type": "http.request", "body": body, "more_body": False}]

                async def receive():
                    if first:
                        return first.pop()
                    await leaving.wait()
                    return {"type": "http.disconnect"}

                return receive

            busy = asyncio.create_task(service.submit(1.0))
            await until(lambda: model.batches)
            asked = asyncio.create_task(call(app, messages(2.0)))
            await settle()
            assert service.stats().queue_length == 1
            leaving.set()
            status, body = await asked
            assert (status, body) == (499, b"") and service.stats().queue_length == 0
            model.gate.set()
            await busy
            return service.stats()

    stats = run(main())
    assert stats.cancelled == 1 and stats.served == 1 and stats.waiting == 0
    assert model.seen() == [1.0]


def test_the_application_opens_and_closes_its_service_and_leaves_anothers_open():
    async def main():
        own = ModelService(Model())
        app = create_app(own, ())
        async with app.router.lifespan_context(app):
            assert own.is_open
        assert not own.is_open
        async with ModelService(Model()) as others:
            app = create_app(others, ())
            async with app.router.lifespan_context(app):
                pass
            assert others.is_open

    run(main())


def test_at_the_end_those_who_wait_are_answered_or_after_the_grace_refused():
    async def main(grace):
        model = Model(gate_open=False)
        service = ModelService(model, max_batch_size=1, max_delay=0)
        app = create_app(service, (), "float64", grace=grace)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            context = app.router.lifespan_context(app)
            await context.__aenter__()
            asked = [asyncio.create_task(post(client, x)) for x in (1, 2)]
            await until(lambda: model.batches)
            ending = asyncio.create_task(context.__aexit__(None, None, None))
            await pass_time(5)
            late = await post(client, 3)
            assert late.status_code == 503
            if grace is not None:
                await pass_time(10)
                replies = await asyncio.gather(*asked)
            model.gate.set()
            if grace is None:
                replies = await asyncio.gather(*asked)
            await ending
            return [reply.status_code for reply in replies]

    assert run(main(None)) == [200, 200]
    assert run(main(10.0)) == [503, 503]


# Metrics and the document


def samples(text):
    """{(name, labels): value} by Prometheus' own parser."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found  # a series stands once
            found[key] = sample.value
    return found


def test_prometheus_reads_what_the_service_counted():
    model = Model()

    async def main():
        async with client_of(model, service=dict(max_batch_size=5)) as (client, service):
            empty = (await client.get("/metrics")).text
            for x in (1, 1, 2, 13):
                await post(client, x)
            await asyncio.gather(*(post(client, x) for x in range(20, 30)))
            await client.post("/predict", content=b"{")
            reply = await client.get("/metrics")
            return empty, reply, service.stats()

    empty, reply, stats = run(main())
    assert reply.headers["content-type"].startswith("text/plain; version=")
    found = samples(reply.text)
    assert all(value == 0 for value in samples(empty).values())
    for outcome_ in ("served", "refused", "failed", "timed_out", "cancelled"):
        key = ("model_requests_total", ("outcome", outcome_))
        assert found[key] == getattr(stats, outcome_)
    assert found[("model_requests_received_total",)] == stats.received == 14
    assert found[("model_cache_hits_total",)] == stats.cache_hits == 1
    assert found[("model_queue_length",)] == found[("model_requests_waiting",)] == 0
    sizes = [len(batch) for batch in model.batches]
    assert found[("model_batch_size_count",)] == len(sizes)
    assert found[("model_batch_size_sum",)] == sum(sizes)
    for bound in (1, 2, 4, 8):
        at_most = found[("model_batch_size_bucket", ("le", f"{bound:.1f}"))]
        assert at_most == sum(size <= bound for size in sizes)
    count = "http_request_duration_seconds_count"
    assert found[(count, ("code", "200"))] == 13
    assert found[(count, ("code", "500"))] == found[(count, ("code", "415"))] == 1


def test_two_applications_in_one_process_count_apart():
    async def main():
        async with client_of(Model()) as (one, _), client_of(Model()) as (other, _):
            await post(one, 1)
            return (await one.get("/metrics")).text, (await other.get("/metrics")).text

    received = [samples(text)[("model_requests_received_total",)] for text in run(main())]
    assert received == [1, 0]


def document(shape, dtype):
    return create_app(ModelService(Model()), shape, dtype).openapi()


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", "bool"])
def test_the_document_takes_what_is_taken_and_refuses_what_is_refused(dtype):
    post_ = document((2,), dtype)["paths"]["/predict"]["post"]
    schema = post_["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    values = [
        0, 1, 2.0, 1.5, True, None, "1", [], -1, 255, 256, 2**53, 2**63 - 1, 2**63, 1e300, -1e39
    ]  # fmt: skip
    bodies = [{"x": [value, value]} for value in values]
    bodies += [{}, [], {"x": 1}, {"x": [1]}, {"x": [1, 1, 1]}, {"x": [1, 1], "y": 1}]

    async def main():
        async with client_of(lambda x: x, (2,), dtype) as (client, _):
            return [await client.post("/predict", json=body) for body in bodies]

    replies = run(main())
    assert {reply.status_code for reply in replies} == {200, 422}
    for body, reply in zip(bodies, replies, strict=True):
        assert validator.is_valid(body) == (reply.status_code == 200), body


def test_each_status_that_was_seen_here_is_in_the_document():
    paths = document((2,), "float32")["paths"]
    assert paths.keys() == {"/predict", "/healthz", "/readyz", "/metrics"}
    documented = {int(code) for code in paths["/predict"]["post"]["responses"]}
    assert documented == {200, 400, 408, 413, 415, 422, 500, 503, 504}
    assert documented >= {status for _, status, _ in REFUSED}


# What must not be there


def forbidden(tree):
    """Calls that run or could run what they read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.split(".")[0] in {"pickle", "dill", "cloudpickle", "joblib", "marshal"}:
                    yield name
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            unsafe = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if name in {"eval", "exec", "compile", "__import__", "yaml.load", "os.system"}:
                yield name
            if name == "torch.load" and unsafe.get("weights_only") != "True":
                yield name
            if name in {"np.load", "numpy.load"} and unsafe.get("allow_pickle", "False") != "False":
                yield name


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import joblib", "eval(x)", "exec(x)",
        "torch.load(f)", "np.load(f, allow_pickle=True)", "torch.load(f, weights_only=False)",
    ],
)  # fmt: skip
def test_the_walk_below_finds(code):
    assert [*forbidden(ast.parse(code))]


def test_no_code_of_the_chapter_unpickles_or_evaluates_what_it_reads():
    folder = Path(dlcourse.ml_system_design.__file__).parent
    files = [path for path in folder.rglob("*.py") if "exercises" not in path.parts]
    assert len(files) > 20 and any(path.name == "app.py" for path in files)
    found = {path.name: [*forbidden(ast.parse(path.read_text("utf8")))] for path in files}
    assert not {name: calls for name, calls in found.items() if calls}


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(service=abs), TypeError, "service must be a ModelService"),
        (dict(shape=(2, 0)), ValueError, "each size in shape must be at least 1"),
        (dict(shape=(2, None)), TypeError, "each size in shape must be a whole number"),
        (dict(dtype="U3"), TypeError, "floats, integers or booleans"),
        (dict(dtype=object), TypeError, "floats, integers or booleans"),
        (dict(dtype=complex), TypeError, "floats, integers or booleans"),
        (dict(dtype=np.longdouble), TypeError, "at most 64 bits"),
        (dict(check=3), TypeError, "check must be a function or None"),
        (dict(max_body=0), ValueError, "max_body must be at least 1"),
        (dict(body_timeout=0), ValueError, "body_timeout must be finite and > 0"),
        (dict(retry_after=0.5), TypeError, "retry_after must be a whole number"),
        (dict(stuck_after=np.inf), ValueError, "stuck_after must be finite"),
        (dict(grace=-1), ValueError, "grace must be finite"),
    ],
)
def test_create_app_with_bad_arguments(arguments, error, message):
    arguments = {"service": ModelService(abs), "shape": (2,), **arguments}
    with pytest.raises(error, match=message):
        create_app(**arguments)


# A thousand requests that nobody thought of


def test_a_thousand_fuzzed_requests_get_no_5xx_and_what_the_document_says():
    """schemathesis makes them from the document, valid and not, from a fixed seed."""
    import schemathesis
    from schemathesis.generation import GenerationMode

    statuses = []
    # A model that fails for no finite input; the double of 3e38 is none in float32, and a 500.
    app = create_app(ModelService(np.tanh, max_delay=0), (2,), "float32")
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    for operation in schema.get_all_operations():
        operation = operation.ok()

        @settings(
            max_examples=1000 if operation.path == "/predict" else 10, deadline=None,
            database=None, derandomize=True, suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def fuzz(case):
            response = case.call()
            statuses.append(response.status_code)
            # No schema says of raw bytes that they are floats, and finite.
            raw = case.media_type == "application/octet-stream"
            unfit = [schemathesis.specs.openapi.checks.positive_data_acceptance] if raw else []
            case.validate_response(response, excluded_checks=unfit)

        fuzz()
    assert len(statuses) >= 1000 and max(statuses) < 500
    assert min(statuses.count(200), statuses.count(422)) >= 100


PIECES = [b"[", b"]", b'"', b"\\", b"{", b"}", b",", b"9", b"\xff", b"\0", b""]


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bodies_of_any_type_get_an_answer_or_a_4xx(seed):
    rng = np.random.default_rng(seed)
    kinds = ["application/json", "application/octet-stream", "text/plain", "\xff;"]
    bodies = [body for body, *_ in REFUSED if len(body) < 100] + [b'{"x": [1, -2.5e3]}', b"\0" * 8]

    def damaged():
        body = bytearray(bodies[rng.integers(len(bodies))])
        for _ in range(rng.integers(4)):
            place = int(rng.integers(len(body) + 1))
            piece = PIECES[rng.integers(len(PIECES))]
            body[place : place + int(rng.integers(2))] = piece
        return bytes(body)

    async def main():
        found = []
        async with client_of(np.tanh, (2,), "float32") as (client, _):
            for _ in range(400):
                kind = kinds[rng.choice(4, p=[0.7, 0.2, 0.05, 0.05])].encode("latin1")
                headers = [(b"content-type", kind)]
                found.append(await client.post("/predict", content=damaged(), headers=headers))
        return found

    statuses = [reply.status_code for reply in run(main())]
    assert set(statuses) == {200, 400, 415, 422}


# Over sockets, with a server in a process of its own


def waiting(server):
    return samples(server.get("/metrics")[1])[("model_requests_waiting",)]


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def asking(server, x):
    """A connection on which x has been asked."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    body = json.dumps({"x": x})
    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
    return connection


def answer_on(connection):
    response = connection.getresponse()
    return response.status, json.loads(response.read())["y"]


def test_a_client_that_closes_its_socket_leaves_the_queue_and_the_end_waits_for_the_others():
    with serving("tripling:1.5", batch=1) as server:
        first = asking(server, 1)
        wait_until(lambda: waiting(server) == 1)
        second = asking(server, 2)
        wait_until(lambda: waiting(server) == 2)
        second.close()
        wait_until(lambda: waiting(server) == 1)
        server.process.send_signal(signal.SIGTERM)  # in the middle of the first one's batch
        assert answer_on(first) == (200, 3)
        first.close()
        server.process.wait(20)
        with pytest.raises(ConnectionRefusedError):
            asking(server, 4)


def test_when_the_server_is_killed_its_clients_know_it_and_a_new_one_answers():
    with serving("tripling:30") as server:
        client = asking(server, 1)
        wait_until(lambda: waiting(server) == 1)
        os.kill(server.process.pid, signal.SIGKILL)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            answer_on(client)
    with serving("tripling:0.01") as server:
        assert answer_on(asking(server, 1)) == (200, 3)


def test_under_ten_times_the_load_each_request_over_http_is_answered_or_refused_rightly():
    n = 1000
    bodies = [json.dumps({"x": i}).encode() for i in range(n)]
    with serving("tripling:0.05", batch=2, queue=16) as server:  # at most 40 a second
        before = server.memory()
        outcomes = load(server, poisson_arrivals(400, n, 0), bodies)
        grown = server.memory() - before
        counted = samples(server.get("/metrics")[1])
    served, refused = outcomes.status == 200, outcomes.status == 503
    assert (served | refused).all() and served.sum() > 0 < refused.sum()
    assert (outcomes.responses == 1).all()
    assert all(y == (3 * i if served[i] else None) for i, y in enumerate(outcomes.answers))
    assert counted[("model_requests_total", ("outcome", "served"))] == served.sum()
    assert counted[("model_requests_total", ("outcome", "refused"))] == refused.sum()
    assert counted[("model_requests_waiting",)] == 0
    assert grown < 100  # MB; a thousand connections, and no more than 16 requests


def test_a_server_that_does_not_start_says_so():
    with pytest.raises(RuntimeError, match="the server ended with 1"):
        with serving("nothing"):
            pass
