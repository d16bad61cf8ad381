"""What page 123.2c measures: requests to a language model in static and in continuous batches."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from dlcourse.ml_system_design.scaling_out.batching import ContinuousBatcher
from dlcourse.ml_system_design.scaling_out.decoder import Decoder, DecoderConfig


def draw_requests(
    seed: int, count: int, vocabulary: int, prompt: int = 32, median: float = 24, most: int = 256
) -> list[tuple[Tensor, int]]:
    """Prompts of one length, and answers whose lengths are log-normal: most short, few long."""
    rng = np.random.default_rng([23, seed])
    lengths = np.clip(rng.lognormal(np.log(median), 1.0, count).round(), 1, most).astype(int)
    prompts = rng.integers(vocabulary, size=(count, prompt))
    return [(torch.from_numpy(p), int(n)) for p, n in zip(prompts, lengths)]


def serve_all(
    kind: type[ContinuousBatcher], model: Decoder, requests: list[tuple[Tensor, int]], batch: int
) -> dict[str, float]:
    """All requests come at once: tokens/s, steps, and s until a request's first and last token."""
    most = max(len(prompt) + count for prompt, count in requests)
    batcher = kind(model, batch, most, max_waiting=len(requests))
    start = time.perf_counter()
    sent = [batcher.submit(prompt, count) for prompt, count in requests]
    batcher.run()
    seconds = time.perf_counter() - start
    first = [request.first_token - start for request in sent]
    last = [request.finished - start for request in sent]
    return {
        "rate": sum(count for _, count in requests) / seconds, "steps": batcher.steps,
        "first_p50": float(np.median(first)), "first_p99": float(np.percentile(first, 99)),
        "last_p50": float(np.median(last)),
    }  # fmt: skip


@torch.no_grad()
def seconds_without_a_cache(model: Decoder, prompt: Tensor, count: int) -> float:
    """Seconds for an answer where all is read anew for each token."""
    from dlcourse.ml_system_design.scaling_out.decoder import generate

    generate(model, prompt, 1)  # warm up
    start = time.perf_counter()
    generate(model, prompt, count).tolist()
    return time.perf_counter() - start


def decoder(config: DecoderConfig, device: str = "cpu", dtype: torch.dtype = torch.float32):
    """A decoder with random weights, in eval mode."""
    return Decoder(config).to(device, dtype).eval().requires_grad_(False)
