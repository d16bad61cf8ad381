"""Bytes on one GPU: the model's state, and activations (section 119.1a). Formulas only.

Chapter: ``119_large_scale_training/1a_distributed``.

Papers: Rajbhandari et al. (2020), "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models"; Korthikanti et al. (2022), "Reducing Activation Recomputation in Large Transformer Models".
"""

from __future__ import annotations

from dataclasses import dataclass

from dlcourse.large_scale_training.distributed._checks import positive

__all__ = ["Memory", "activation_bytes", "zero_memory"]


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU."""

    parameters: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        return self.parameters + self.gradients + self.optimizer


def zero_memory(
    parameters: float,
    world_size: int,
    stage: int,
    *,
    parameter_bytes: float = 2,
    gradient_bytes: float = 2,
    optimizer_bytes: float = 12,
) -> Memory:
    """Bytes of model state on each of ``world_size`` GPUs (Rajbhandari et al. 2020, section 3).

    The defaults are the paper's mixed precision with Adam: 16-bit weights and gradients, and in
    32 bits the master weights and two moments, K = 12. Training in float32 with Adam is 4, 4, 8.

    Args:
        parameters: number of the model's parameters, Psi.
        stage: 0 all is replicated (data parallel), 1 the optimizer's state is sharded, 2 the
            gradients too, 3 the parameters too (FSDP).

    Raises ValueError for another stage or a world without ranks.
    """
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"stage must be 0, 1, 2 or 3, not {stage!r}")
    positive(parameters=parameters, world_size=world_size)
    return Memory(
        parameters=parameter_bytes * parameters / (world_size if stage >= 3 else 1),
        gradients=gradient_bytes * parameters / (world_size if stage >= 2 else 1),
        optimizer=optimizer_bytes * parameters / (world_size if stage >= 1 else 1),
    )


def activation_bytes(
    batch: float, sequence: int, hidden: int, layers: int, heads: int, recompute: str = "attention"
) -> float:
    """Bytes of 16-bit activations kept for the backward pass of a transformer on one GPU
    (Korthikanti et al. 2022, equation 1 and table 2), without embedding and logits.

    Args:
        batch: sequences on this GPU at once, b.
        recompute: "nothing": s b h L (34 + 5 a s / h). "attention": 34 s b h L, which is selective
            recomputation, and what a fused attention kernel keeps. "blocks": 2 s b h L, only each
            block's input (activation checkpointing).
    """
    per_token_and_width = {
        "nothing": 34 + 5 * heads * sequence / hidden,
        "attention": 34,
        "blocks": 2,
    }
    if recompute not in per_token_and_width:
        raise ValueError(f"recompute must be one of {list(per_token_and_width)}: {recompute!r}")
    return sequence * batch * hidden * layers * per_token_and_width[recompute]
