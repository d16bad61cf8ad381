"""Requests to a language model in one batch, which they enter and leave token by token.

Papers:
    Yu et al. (2022), *Orca: A Distributed Serving System for Transformer-Based Generative Models*,
    section 3 (a schedule for each iteration).
    Kwon et al. (2023), *Efficient Memory Management for Large Language Model Serving with
    PagedAttention* (what the cache wastes).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .decoder import Decoder, KVCache


class BatcherFull(RuntimeError):
    """As many requests wait as may: come back later."""


@dataclass(eq=False)
class TokenRequest:
    """A prompt, and what has come of it. Times are those of ``time.perf_counter``, in s."""

    prompt: Tensor  # (n,) int64
    count: int  # tokens that are asked for
    end: int | None = None  # the token that ends the answer before
    tokens: list[int] = field(default_factory=list)
    submitted: float = 0.0
    first_token: float = 0.0
    finished: float = 0.0
    slot: int = -1

    @property
    def is_done(self) -> bool:
        """Whether all tokens are there, or the last one ends the answer."""
        return len(self.tokens) == self.count or (
            self.end is not None and self.tokens[-1:] == [self.end]
        )


class ContinuousBatcher:
    """Continuous batching: between two steps requests leave that are done, and others come in.

    A step makes one token for each request in the batch. A prompt is read when its request comes in,
    by itself; the others wait meanwhile. Answers are the likeliest tokens.

    Args:
        model: in eval mode; its device and dtype are the cache's.
        max_batch: requests in the batch, each with a slot of the cache.
        max_length: tokens of a prompt and its answer together, at most.
        max_waiting: requests that may wait; more are refused.

    Raises ValueError for numbers below 1.
    """

    def __init__(
        self, model: Decoder, max_batch: int = 8, max_length: int = 256, max_waiting: int = 1024
    ) -> None:
        if max_waiting < 1:
            raise ValueError(f"max_waiting must be at least 1: got {max_waiting}")
        self.model = model
        weight = model.embedding.weight
        self.cache = KVCache(model.config, max_batch, max_length, weight)
        self.max_waiting = max_waiting
        self.waiting: deque[TokenRequest] = deque()
        self.batch: list[TokenRequest] = []
        self.steps = 0

    def submit(self, prompt: Tensor, count: int, end: int | None = None) -> TokenRequest:
        """Queue a request; its tokens come with later steps.

        Raises ValueError for a prompt that is no ``(n ≥ 1,)`` int64 of tokens that the model knows,
        or longer with its answer than a slot; BatcherFull where too many wait.
        """
        if prompt.ndim != 1 or len(prompt) < 1 or prompt.dtype != torch.int64:
            raise ValueError(f"prompt must be int64 of shape (n ≥ 1,): got {tuple(prompt.shape)}")
        if int(prompt.min()) < 0 or int(prompt.max()) >= self.model.config.vocabulary:
            raise ValueError(f"tokens must be in [0, {self.model.config.vocabulary})")
        if count < 1 or len(prompt) + count > self.cache.length:
            raise ValueError(
                f"count must be at least 1, and prompt and answer at most {self.cache.length} "
                f"tokens together: got {len(prompt)} and {count}"
            )
        if len(self.waiting) >= self.max_waiting:
            raise BatcherFull(f"{self.max_waiting} requests wait already: come back later")
        request = TokenRequest(prompt, count, end, submitted=time.perf_counter())
        self.waiting.append(request)
        return request

    def may_enter(self) -> bool:
        """Whether the oldest request that waits may come in now: where a slot is free."""
        return self.cache.num_free > 0

    @torch.no_grad()
    def step(self) -> list[TokenRequest]:
        """Let requests in, make a token for each in the batch; returns those that are done."""
        entering = self.may_enter()
        while self.waiting and entering and self.cache.num_free:
            request = self.waiting.popleft()
            request.slot = self.cache.take()
            self._read([request], request.prompt[None])
            request.first_token = time.perf_counter()
            self.batch.append(request)
        done = self._leave()  # of those, some wanted one token
        if self.batch:
            last = torch.tensor([[r.tokens[-1]] for r in self.batch])
            self._read(self.batch, last)
            self.steps += 1
            done += self._leave()
        return done

    def run(self) -> list[TokenRequest]:
        """Steps until nobody is left; returns the requests in the order in which they were done."""
        done = []
        while self.waiting or self.batch:
            done += self.step()
        return done

    def _read(self, requests: list[TokenRequest], tokens: Tensor) -> None:
        """One pass over new tokens ``(b, n)``, and the next token of each request."""
        device = self.cache.keys.device
        slots = torch.tensor([request.slot for request in requests], device=device)
        logits = self.model(tokens.to(device), self.cache, slots)  # (b, vocabulary)
        for request, token in zip(requests, logits.argmax(-1).tolist(), strict=True):
            request.tokens.append(token)

    def _leave(self) -> list[TokenRequest]:
        done = [request for request in self.batch if request.is_done]
        for request in done:
            request.finished = time.perf_counter()
            self.cache.give_back(request.slot)
        self.batch = [request for request in self.batch if not request.is_done]
        return done


class StaticBatcher(ContinuousBatcher):
    """Static batching: nobody comes in before all of the batch are done."""

    def may_enter(self) -> bool:
        """Whether the batch is empty."""
        return not self.batch
