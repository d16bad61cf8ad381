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
                torch.cuda.manual_seed(_seed(state, 0, 1))
    except Exception as error:
        set_rng_state(before)
        raise ValueError(f"this is not what rng_state returned: {error}") from error


def with_new_streams(value: Any, rank: int, world_size: int) -> Any:
    """``value`` with each ``rng_state`` in it replaced by a stream of this rank.

    It follows from the saved state, the rank and the number of ranks, by SHA-256: a resumed run
    can be repeated, and the ranks' streams are apart.
    """
    if isinstance(value, dict):
        if _PARTS <= value.keys():
            return _stream(_seed(value, rank, world_size))
        return type(value)(
            (k, with_new_streams(v, rank, world_size)) for k, v in value.items()
        )
    if type(value) in (list, tuple):
        return type(value)(with_new_streams(v, rank, world_size) for v in value)
    return value


def _seed(state: dict[str, Any], rank: int, world_size: int) -> int:
    digest = hashlib.sha256(f"{rank} of {world_size}".encode())
    digest.update(repr(state["python"]).encode() + repr(state["numpy"]).encode())
    digest.update(state["torch"].cpu().numpy().tobytes())
    return int.from_bytes(digest.digest()[:8], "big") >> 1  # 63 bits: torch's seeds are signed


def _stream(seed: int) -> dict[str, Any]:
    import random

    import numpy as np

    generator = np.random.RandomState([seed % 2**32, seed >> 32])
    name, keys, position, has_gauss, gauss = generator.get_state()
    state = {
        "python": random.Random(seed).getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.Generator().manual_seed(seed).get_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.Generator("cuda").manual_seed(seed).get_state()
    return state
