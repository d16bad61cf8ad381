"""When is a token? Embeddings of time in seconds, so that streams of different rates meet.

Paper: Vaswani et al. (2017), *Attention Is All You Need*, section 3.5 (sinusoids, there of the
position in tokens).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def token_times(tokens: int, rate: float | None, device: torch.device | None = None) -> Tensor:
    """The middle of each token in seconds, ``(tokens,)``, at ``rate`` tokens a second.

    With no rate the tokens are spread evenly over 0 … 1.

    Raises ValueError for a rate that is not positive.
    """
    if rate is not None and rate <= 0:
        raise ValueError(f"a rate is tokens a second, above 0: got {rate}")
    places = torch.arange(tokens, device=device) + 0.5
    return places / (tokens if rate is None else rate)


def time_embedding(
    times: Tensor, dim: int, *, shortest: float = 0.1, longest: float = 4.0
) -> Tensor:
    """Sines and cosines of the time: ``(T,)`` in seconds to ``(T, dim)``.

    The wavelengths are a geometric series from ``shortest`` to ``longest`` seconds. Two tokens at
    the same time have the same embedding, whatever their places in their streams.

    Raises ValueError for an odd or too small width, or wavelengths out of order.
    """
    if dim < 4 or dim % 2:
        raise ValueError(f"dim must be even, and at least 4: got {dim}")
    if not 0 < shortest < longest:
        raise ValueError(f"need 0 < shortest < longest, got {shortest} and {longest} seconds")
    # λ_k = shortest · (longest / shortest)^(k / (K − 1)),  k = 0 … K − 1,  K = dim / 2
    k = torch.linspace(0, 1, dim // 2, device=times.device)
    wavelengths = shortest * (longest / shortest) ** k
    # e(t) = (sin 2πt/λ_0, …, sin 2πt/λ_{K−1}, cos 2πt/λ_0, …)
    angles = 2 * math.pi * times[:, None].float() / wavelengths  # (T, K)
    return torch.cat([angles.sin(), angles.cos()], 1)
