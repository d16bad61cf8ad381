"""Chapter 123.2a: the same model behind LitServe, for a comparison in one run.

A module of its own, since LitServe starts its worker by importing the class from here.
"""

from __future__ import annotations

from typing import Any

import litserve
import numpy as np
from numpy.typing import NDArray

from .http_load import model_named, request_of


class Peer(litserve.LitAPI):
    """JSON in and out, as ``create_app`` has it.

    The arguments' names are LitServe's own, which passes ``request`` by name; an annotation there
    would become a schema.
    """

    def __init__(self, model: str, max_batch_size: int, batch_timeout: float) -> None:
        super().__init__(max_batch_size=max_batch_size, batch_timeout=batch_timeout)
        self.name = model

    def setup(self, device: str) -> None:
        self.model, (_, self.dtype) = model_named(self.name), request_of(self.name)

    def decode_request(self, request) -> NDArray:  # type: ignore[no-untyped-def]
        return np.array(request["x"], self.dtype)

    def batch(self, inputs: list[NDArray]) -> NDArray:
        return np.stack(inputs)

    def predict(self, x: NDArray) -> NDArray:
        return self.model(x) if self.max_batch_size > 1 else self.model(x[None])[0]

    def unbatch(self, output: NDArray) -> list[NDArray]:
        return list(output)

    def encode_response(self, output: NDArray) -> dict[str, Any]:
        return {"y": output.tolist()}


def serve_peer(model: str, port: int, batch: int, delay: float) -> None:
    """Serve on the loopback interface until the process ends: one worker, one server."""
    server = litserve.LitServer(
        Peer(model, batch, delay), accelerator="cpu", devices=1, workers_per_device=1, timeout=False
    )
    server.run(
        host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False,
        log_level="error", access_log=False, backlog=8192,
    )  # fmt: skip
