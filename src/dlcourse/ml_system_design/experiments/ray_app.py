"""The chapter's service as a Ray Serve deployment: several replicas, on one machine or many.

    pip install "dlcourse[ray-serve]"
    serve run dlcourse.ml_system_design.experiments.ray_app:app
    curl -X POST localhost:8000 -d '{"x": [0.5, ...64 numbers]}'

Each replica holds a model and a ``ModelService``, which batches what comes to it. Ray's proxy sends
each request to one of two replicas that it draws, the one with fewer requests inside, and starts and
stops replicas by the requests that are inside. Settings: ``DLCOURSE_REPLICAS`` (a number, or "auto").

Ray's own ``@serve.batch`` would batch too; here the batching is that of section 123.2a, so that the
answers, the refusals and the counts are the same behind either server.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from ..model_service.errors import ServiceError
from ..model_service.http_input import BadRequest, json_array, parse_json, read_body
from ..model_service.service import ModelService

SHAPE, MAX_BODY = (64,), 100_000


def network() -> torch.nn.Module:
    """64 numbers to 10, 4.4 million random weights: that of section 123.2a."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(64, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 2048)]
    return torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(2048, 10)).eval()


class Replica:
    """One model with its service. Ray makes one in each process that it starts."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.model = network()
        self.service: ModelService | None = None  # opened in Ray's event loop, at the first request

    @torch.inference_mode()
    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.model(torch.tensor(x)).numpy()

    async def __call__(self, request: Request) -> JSONResponse:
        if self.service is None:
            self.service = ModelService(self.predict, 32, 0.0, cache_size=0)
            await self.service.__aenter__()  # does not pause: no other request comes between
        try:
            body = await read_body(request.stream(), request.headers, MAX_BODY, 10.0)
            x = json_array(parse_json(body, len(SHAPE) + 2), SHAPE, np.dtype("float32"))
            y = await self.service.submit(x)
        except BadRequest as error:
            return JSONResponse({"detail": str(error)}, error.status)
        except ServiceError as error:
            return JSONResponse({"detail": str(error)}, 503)
        return JSONResponse({"y": y.tolist(), "replica": os.getpid()})


def deployment(replicas: int | str) -> serve.Application:
    """The application with so many replicas, or "auto": from 1 to 4, by the requests inside."""
    options = {"max_ongoing_requests": 256, "ray_actor_options": {"num_cpus": 0.5}}
    if replicas == "auto":
        options["autoscaling_config"] = {
            "min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 32
        }  # fmt: skip
    else:
        options["num_replicas"] = int(replicas)
    return serve.deployment(**options)(Replica).bind()


def __getattr__(name: str) -> serve.Application:
    """``app`` is made when ``serve run`` asks for it, not when this module is imported."""
    if name == "app":
        wanted = os.environ.get("DLCOURSE_REPLICAS", "auto")
        return deployment(wanted if wanted == "auto" else int(wanted))
    raise AttributeError(name)
