"""The three attention masks of stage 1: who may look at whom (BLIP-2, figure 2)."""

from __future__ import annotations

import torch
from torch import Tensor

OBJECTIVES = ("itc", "itm", "itg")


def attention_mask(objective: str, num_queries: int, text_mask: Tensor) -> Tensor:
    """Who may look at whom in the self-attention over Q queries and T text tokens.

    Args:
        objective: "itc": queries and text don't see each other; "itm": all see all; "itg": the
            text sees the queries and the text before it, the queries see queries alone.
        num_queries: Q, at least 0.
        text_mask: bool ``(B, T)``, True for tokens, False for padding.

    Returns:
        bool ``(B, 1, Q + T, Q + T)``: row i may look at column j. Nobody looks at padding.

    Raises:
        TypeError: the text mask is not boolean: a float mask of 0 and 1 would be *added* to scores.
        ValueError: another objective, a wrong shape, or a text of padding alone.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}: got {objective!r}")
    if text_mask.dtype != torch.bool:
        raise TypeError(f"text_mask must be bool, True for tokens: got {text_mask.dtype}")
    if text_mask.ndim != 2 or num_queries < 0:
        raise ValueError(
            f"need text_mask (B, T) and num_queries >= 0: got {tuple(text_mask.shape)} and "
            f"{num_queries}"
        )
    if not being_captured(text_mask) and not bool(text_mask.any(1).all()):
        raise ValueError("a text has no token at all: leave it out, or give it its first token")
    return _attention_mask(objective, num_queries, text_mask)


def being_captured(x: Tensor) -> bool:
    """Whether a CUDA graph is being captured, in which nobody can look at a value."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def _attention_mask(objective: str, num_queries: int, text_mask: Tensor) -> Tensor:
    """``attention_mask`` without its checks, which would make a GPU wait."""
    b, t = text_mask.shape
    may = torch.ones(num_queries + t, num_queries + t, dtype=torch.bool, device=text_mask.device)
    query, text = slice(0, num_queries), slice(num_queries, None)
    if objective in ("itc", "itg"):
        may[query, text] = False  # the queries must not read the answer
    if objective == "itc":
        may[text, query] = False
    if objective == "itg":
        may[text, text] = may[text, text].tril()  # nor a token what comes after it
    real = torch.cat([text_mask.new_ones(b, num_queries), text_mask], dim=1)  # (B, Q + T)
    return may & real[:, None, None, :]
