"""What a service has done so far."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class ServiceStats:
    """Counts of requests since the service was made.

    Each request received has one end, or is still waiting:
    received = served + refused + failed + timed_out + cancelled + waiting.
    """

    received: int  # valid requests; one with a bad input is not counted
    served: int  # answered, from the model or the cache
    refused: int  # ServiceFull or ServiceClosed
    failed: int  # ModelError, BadModelOutput
    timed_out: int  # ServiceTimeout
    cancelled: int  # the caller left
    cache_hits: int  # of those served
    joined: int  # received while an equal request was in flight, and shared its computation
    queue_length: int  # requests waiting for a batch; joined ones count once
    batch_sizes: tuple[int, ...]  # [n]: calls of predict_fn with n requests, second tries included
    call_seconds: float  # how long the call that runs has taken so far; 0 where none runs

    @property
    def waiting(self) -> int:
        """Requests without an end so far."""
        ended = self.served + self.refused + self.failed + self.timed_out + self.cancelled
        return self.received - ended
