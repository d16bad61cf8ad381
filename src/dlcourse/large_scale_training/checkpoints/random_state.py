"""The states of the random generators, which a resumed run needs too.

Chapter: ``119_large_scale_training/1b_checkpoints``.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch

__all__ = ["rng_state", "set_rng_state"]

_PARTS = {"python", "numpy", "torch"}


def rng_state() -> dict[str, Any]:
    """The states of the global random generators (Python, NumPy, torch, the current CUDA device),
    in a form that ``extra`` of ``save_checkpoint`` accepts."""
    import random

    import numpy as np

    name, keys, position, has_gauss, gauss = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what ``rng_state`` returned.

    Raises ValueError for anything else, and has changed nothing then.
    """
    import random

    import numpy as np

    if not isinstance(state, dict) or not _PARTS <= state.keys():
        raise ValueError(f"this is not what rng_state returned: {type(state).__name__}")
    before = rng_state()
    try:
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"].cpu())
        if torch.cuda.is_available():
            if "cuda" in state:
                torch.cuda.set_rng_state(state["cuda"].cpu())
            else:  # saved on a machine without a GPU: its own stream for each state
                torch.cuda.manual_seed(_seed(state, "torch", 0, 1))
    except Exception as error:
        set_rng_state(before)
        raise ValueError(f"this is not what rng_state returned: {error}") from error


def with_new_streams(value: Any, rank: int, world_size: int) -> Any:
    """``value`` with each ``rng_state`` in it replaced by a stream of this rank.

    Each generator's follows from its own saved state, the rank and the number of ranks, by
    SHA-256: a resumed run can be repeated, and the ranks' streams are apart.
    """
    if isinstance(value, dict):
        if _PARTS <= value.keys():
            return _stream({part: _seed(value, part, rank, world_size) for part in _PARTS})
        return type(value)(
            (k, with_new_streams(v, rank, world_size)) for k, v in value.items()
        )
    if type(value) in (list, tuple):
        return type(value)(with_new_streams(v, rank, world_size) for v in value)
    return value


def _seed(state: dict[str, Any], part: str, rank: int, world_size: int) -> int:
    # Of that part alone: who seeds torch and not Python can still repeat what torch draws.
    saved = state[part].cpu().numpy().tobytes() if part == "torch" else repr(state[part]).encode()
    digest = hashlib.sha256(f"{part}, {rank} of {world_size}".encode() + saved).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits: torch's seeds are signed


def _stream(seeds: dict[str, int]) -> dict[str, Any]:
    """The states of generators with these seeds, as ``rng_state`` returns them."""
    import random

    import numpy as np

    words = [seeds["numpy"] % 2**32, seeds["numpy"] >> 32]
    name, keys, position, has_gauss, gauss = np.random.RandomState(words).get_state()
    state = {
        "python": random.Random(seeds["python"]).getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.Generator().manual_seed(seeds["torch"]).get_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.Generator("cuda").manual_seed(seeds["torch"]).get_state()
    return state
