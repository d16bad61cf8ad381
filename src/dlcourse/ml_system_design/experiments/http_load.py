"""Chapter 123.2a: a service behind HTTP under load, with server and clients in processes apart.

    with serving("tripling:0.05", batch=2, queue=64) as server:
        outcomes = load(server, arrivals, bodies)

``python -m dlcourse.ml_system_design.experiments.http_load serve …`` is a server, ``… load`` the
clients; both are started by the functions here. Sockets are on the loopback interface only.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 72  # pixels of the pictures
IDLE = 2.0  # s after which clients let a connection go; uvicorn closes it after 5


# Models: each a function (n, *shape) -> (n, *answer_shape), made in the process that runs it

REQUESTS = {"tripling": ((), "float64"), "lite0": ((3, SIDE, SIDE), "uint8")}  # shape and dtype


def tripling(seconds: str) -> Callable[[NDArray], NDArray]:
    """3 x after so many seconds: nobody can mistake another request's answer for its own."""
    pause = float(seconds)

    def predict(x: NDArray) -> NDArray:
        time.sleep(pause)
        return 3 * x

    return predict


def lite0(path: str) -> Callable[[NDArray], NDArray]:
    """EfficientNet-Lite0 from a file of ``save_model``, on one thread: picture to 1,000 logits."""
    import timm
    import torch

    from dlcourse.ml_system_design import load_model

    torch.set_num_threads(1)
    model = timm.create_model("tf_efficientnet_lite0").eval().requires_grad_(False)
    load_model(model, path)
    model = model.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def predict(images: NDArray) -> NDArray:
        x = (torch.tensor(images).float() - 127) / 128
        return model(x.contiguous(memory_format=torch.channels_last)).numpy()

    for n in (1, 8):  # warm up
        predict(np.zeros((n, 3, SIDE, SIDE), np.uint8))
    return predict


def model_named(name: str) -> Callable[[NDArray], NDArray]:
    """``tripling:seconds``, or ``lite0:path``."""
    name, _, argument = name.partition(":")
    return {"tripling": tripling, "lite0": lite0}[name](argument)


def request_of(name: str) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of a request to the model of that name."""
    return REQUESTS[name.partition(":")[0]]


# Servers


@dataclasses.dataclass(frozen=True)
class Server:
    """A running server: where it listens, and its process, which leads a group of its own."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def memory(self) -> float:
        """Resident memory of the process that listens, in MB (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def cpu_seconds(self) -> float:
        """CPU time so far of it and those of its children that live (Linux)."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                fields = path.read_text().rpartition(")")[2].split()  # from the state on
                if int(fields[2]) == self.process.pid:  # the group
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def pause(self) -> None:
        """Stop it and its children where they are, so that it takes no time from another one."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a paused server run again."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@contextlib.contextmanager
def serving(
    model: str, kind: str = "ours", start: float = 120.0, **options: Any
) -> Iterator[Server]:
    """A server in a process of its own, ready to answer; it and its children end with the block.

    Args:
        model: as for ``model_named``.
        kind: "ours", with the model in a process of its own; "thread", ours with the model in a
            thread of the server; or "litserve".
        start: seconds in which it must be ready.
        options: ``batch``, ``delay`` (s), ``queue``, ``timeout`` (s).

    Raises RuntimeError if it ends or is not ready in time.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    arguments = json.dumps({"model": model, "kind": kind, "port": port, **options})
    command = [sys.executable, "-m", __name__, "serve", arguments]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    server = Server(f"http://127.0.0.1:{port}", process)
    try:
        _wait_until_ready(server, "/health" if kind == "litserve" else "/readyz", start)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_ready(server: Server, path: str, start: float) -> None:
    end = time.monotonic() + start
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise RuntimeError(f"the server ended with {server.process.returncode}")
        with contextlib.suppress(OSError):
            if server.get(path)[0] == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server was not ready within {start} s")


def serve(
    model: str, kind: str, port: int, batch: int = 8, delay: float = 0.0, queue: int = 1024,
    timeout: float | None = None,
) -> None:  # fmt: skip
    """Serve until the process ends."""
    _allow_many_connections()
    if kind == "litserve":
        from dlcourse.ml_system_design.experiments.litserve_peer import serve_peer

        return serve_peer(model, port, batch, delay)
    import uvicorn

    from dlcourse.ml_system_design import ModelProcess, ModelService, create_app

    with contextlib.ExitStack() as stack:
        if kind == "thread":
            predict = model_named(model)
        else:
            predict = stack.enter_context(ModelProcess(model_named, model))
        service = ModelService(predict, batch, delay, queue, cache_size=0, timeout=timeout)
        uvicorn.run(
            create_app(service, *request_of(model)), host="127.0.0.1", port=port, log_level="error",
            access_log=False, backlog=8192,
        )  # fmt: skip


# Clients


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """One entry for each request, in order."""

    status: NDArray[np.int64]  # of HTTP; 0 where the connection failed
    seconds: NDArray[np.float64]  # from when it was due to the end of the response
    answers: list[Any]  # "y" of each 200, otherwise None
    responses: NDArray[np.int64]  # how many responses each request got
    wall: float  # s from the first request's time to the last response


async def send(port: int, arrivals: Sequence[float], bodies: Sequence[bytes]) -> Outcomes:
    """Open load: each request goes out at its time, whether or not the others have come back.

    Connections are kept and used again, as browsers and proxies do; a new one is opened where none
    is free. One that was idle for ``IDLE`` is not used again: a server closes idle connections, and
    a request that goes out at that moment is lost.

    Args:
        port: of a server on the loopback interface.
        arrivals: seconds from the start at which each request is due, not decreasing.
        bodies: JSON of each request.
    """
    n = len(arrivals)
    status, responses = np.zeros(n, np.int64), np.zeros(n, np.int64)
    seconds, answers = np.full(n, np.nan), [None] * n
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    last_used: dict[asyncio.StreamWriter, float] = {}
    begin = time.perf_counter()

    async def one(i: int) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            pair = free.pop() if free else None  # the one used last
            if pair is None or time.perf_counter() - last_used[pair[1]] > IDLE:
                pair = await asyncio.open_connection("127.0.0.1", port)
            code, content = await exchange(*pair, bodies[i])
            status[i], responses[i] = code, responses[i] + 1
            if code == 200:
                answers[i] = json.loads(content)["y"]
            last_used[pair[1]] = time.perf_counter()
            free.append(pair)
        seconds[i] = time.perf_counter() - begin - arrivals[i]

    tasks = []
    for i, due in enumerate(arrivals):
        if (wait := due - (time.perf_counter() - begin)) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(i)))
    await asyncio.gather(*tasks)
    wall = time.perf_counter() - begin
    for reader, writer in free:
        if reader._buffer:  # a second response that nobody asked for
            raise RuntimeError("a connection holds more than was asked for")
        writer.close()
    return Outcomes(status, seconds, answers, responses, wall)


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> tuple[int, bytes]:
    """One POST to /predict and its response: status and body.

    Raises OSError or IncompleteReadError where the connection ends before the response does.
    """
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").lower().splitlines()
    headers = dict(line.split(": ", 1) for line in lines if line)
    return int(first.split()[1]), await reader.readexactly(int(headers["content-length"]))


def load(server: Server, arrivals: NDArray[np.float64], bodies: Sequence[bytes]) -> Outcomes:
    """``send`` from another process, so that clients and this one don't share an interpreter.

    Raises RuntimeError where that process fails.
    """
    work = {
        "port": server.port,
        "arrivals": list(map(float, arrivals)),
        "bodies": [body.decode() for body in bodies],
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__, "load"], input=json.dumps(work).encode(),
        capture_output=True, timeout=float(arrivals[-1]) + 300,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the clients failed: {done.stderr.decode()[-2000:]}")
    found = json.loads(done.stdout)
    arrays = {name: np.array(found[name]) for name in ("status", "seconds", "responses")}
    return Outcomes(**arrays, answers=found["answers"], wall=found["wall"])


def _allow_many_connections() -> None:
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _clients() -> None:
    _allow_many_connections()
    work = json.load(sys.stdin)
    bodies = [body.encode() for body in work["bodies"]]
    outcomes = asyncio.run(send(work["port"], work["arrivals"], bodies))
    found = dataclasses.asdict(outcomes)
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}
    json.dump(plain, sys.stdout)


if __name__ == "__main__":
    _clients() if sys.argv[1] == "load" else serve(**json.loads(sys.argv[2]))
