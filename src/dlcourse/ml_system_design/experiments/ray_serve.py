"""What page 123.2c records of Ray Serve: the chapter's service with one and with two replicas."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import torch


@contextlib.contextmanager
def ray_on_this_machine(cpus: int = 4) -> Iterator[str]:
    """Ray with Serve on a free port of the loopback interface; it ends with the block.

    Raises ModuleNotFoundError without ray: ``pip install "dlcourse[ray-serve]"``.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import serve

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def serve_replicas(address: str, replicas: int, count: int = 400, callers: int = 16) -> dict:
    """Deploy, and let callers ask who each wait for their answer: what came back, and how fast.

    Returns "rate" (answers/s), "failed", "apart" (largest difference to the model's own answer),
    "by_replica" (answers of each), and "refused" (the status of a request of another shape).
    """
    from ray import serve

    from dlcourse.ml_system_design.experiments import ray_app

    serve.run(ray_app.deployment(replicas), name="model", route_prefix="/predict")
    x = np.random.default_rng(0).standard_normal((count, *ray_app.SHAPE), dtype=np.float32)
    with torch.inference_mode():
        right = ray_app.network()(torch.from_numpy(x)).numpy()
    answers: list[Any] = [None] * count

    async def ask(client: httpx.AsyncClient, i: int) -> None:
        response = await client.post(f"{address}/predict", content=json.dumps({"x": x[i].tolist()}))
        answers[i] = response.json() if response.status_code == 200 else None

    async def caller(client: httpx.AsyncClient, first: int) -> None:
        for i in range(first, count, callers):
            await ask(client, i)

    async def all_callers() -> tuple[float, int]:
        async with httpx.AsyncClient(timeout=60) as client:
            for i in range(2 * callers):  # warm up each replica
                await ask(client, i)
            start = time.perf_counter()
            await asyncio.gather(*(caller(client, k) for k in range(callers)))
            seconds = time.perf_counter() - start
            wrong = await client.post(f"{address}/predict", content=b'{"x": [1]}')
            return seconds, wrong.status_code

    # A notebook has an event loop already; this one is another thread's.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        seconds, refused = pool.submit(lambda: asyncio.run(all_callers())).result()
    good = [i for i, answer in enumerate(answers) if answer is not None]
    if not good:
        raise RuntimeError("no request was answered: look into Ray's logs")
    processes = [answers[i]["replica"] for i in good]
    return {
        "rate": len(good) / seconds, "failed": count - len(good), "refused": refused,
        "apart": max(float(np.abs(np.array(answers[i]["y"]) - right[i]).max()) for i in good),
        "by_replica": [processes.count(p) for p in sorted(set(processes))],
    }  # fmt: skip
