"""What each technique brings on GPUs: memory, speed, utilisation.

Chapter: ``119_large_scale_training/1a_distributed`` (its recorded cell).
"""

from __future__ import annotations

import gc
from collections.abc import Collection
from dataclasses import dataclass

import torch

from dlcourse.large_scale_training.distributed.sharding import shard
from dlcourse.large_scale_training.distributed.world import World, distributed
from dlcourse.large_scale_training.transformer import Transformer, language_loss
from dlcourse.measure import measure_step, transformer_flops

__all__ = [
    "TECHNIQUES",
    "Measurement",
    "checkpoint_blocks",
    "compile_blocks",
    "flops_per_token",
    "measure_each",
    "measure_training",
]

TECHNIQUES = ("bf16", "checkpointing", "compile")


def flops_per_token(model: Transformer, sequence: int) -> float:
    """Useful FLOPs of a training step a token, forward and backward.

    Products with weights (embeddings are looked up, not multiplied), and attention, of which half
    counts, since a causal kernel skips what the mask hides: 6 · layers · width · sequence, where
    PaLM has 12 (Chowdhery et al. 2022, appendix B). What is computed again by checkpointing does
    not count.
    """
    vocabulary, width = model.head.weight.shape
    blocks = transformer_flops(sequence, width, len(model.blocks), causal=True) / sequence
    return 3 * (blocks + 2 * width * vocabulary)


def checkpoint_blocks(model: Transformer) -> None:
    """Keep only each block's input for the backward pass and compute the rest again, in place
    (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost")."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    for i, block in enumerate(model.blocks):
        model.blocks[i] = checkpoint_wrapper(block)


def compile_blocks(model: Transformer) -> None:
    """Compile each block, in place: they are alike, so the compiler works once and not for every
    layer. After ``checkpoint_blocks`` and before ``shard``, whose hooks stay outside."""
    for i, block in enumerate(model.blocks):
        model.blocks[i] = torch.compile(block)


@dataclass(frozen=True)
class Measurement:
    """What ``measure_training`` found on one rank."""

    parameters: int
    step_time: float  # s, median
    tokens_per_second: float  # of this rank
    flops_per_second: float  # useful ones
    peak_memory: int  # bytes; 0 on a CPU
    losses: list[float]


def measure_training(
    shape: dict[str, int], batch: int, techniques: Collection[str] = (), steps: int = 8
) -> Measurement:
    """Train a ``Transformer(**shape)`` for a few steps on random tokens, sharded over all ranks,
    and measure. Run it on every rank: ``launch(measure_training, n, shape, batch, techniques)``.

    Args:
        batch: sequences a rank.
        techniques: of TECHNIQUES. "bf16": compute and gather in bfloat16, float32 master weights;
            "checkpointing": ``checkpoint_blocks``; "compile": ``compile_blocks``.
        steps: measured ones, after three to warm up.

    Raises ValueError for another technique.
    """
    if unknown := set(techniques) - set(TECHNIQUES):
        raise ValueError(f"unknown techniques {sorted(unknown)}: choose from {TECHNIQUES}")
    with distributed() as world:
        return _measure(world, shape, batch, techniques, steps)


def measure_each(
    shape: dict[str, int],
    batch: int,
    runs: Collection[Collection[str]],
    steps: int = 8,
) -> list[Measurement]:
    """``measure_training`` for each set of techniques, one after the other in the same process.
    float32 is slow: a set without "bf16" is measured for two steps."""
    found = []
    with distributed() as world:
        for techniques in runs:
            few = steps if "bf16" in techniques else 2
            found.append(_measure(world, shape, batch, techniques, few))
            torch._dynamo.reset()
            gc.collect()
            if world.device.type == "cuda":
                torch.cuda.empty_cache()
    return found


def _measure(
    world: World, shape: dict[str, int], batch: int, techniques: Collection[str], steps: int
) -> Measurement:
    device = world.device
    torch.manual_seed(0)
    with device:  # initialising billions of weights on the CPU would take minutes
        model = Transformer(**shape)
    parameters = sum(p.numel() for p in model.parameters())
    useful = flops_per_token(model, shape["sequence"])
    if "checkpointing" in techniques:
        checkpoint_blocks(model)
    if "compile" in techniques:
        compile_blocks(model)
    shard(model, param_dtype=torch.bfloat16 if "bf16" in techniques else None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator(device).manual_seed(world.rank)
    size = (batch, shape["sequence"] + 1)
    tokens = torch.randint(shape["vocabulary"], size, generator=generator, device=device)

    losses = []

    def step() -> None:
        optimizer.zero_grad()
        loss = language_loss(model(tokens[:, :-1]), tokens[:, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())  # waits for the device

    cost = measure_step(step, device, warmup=2, repeats=steps, clock="wall")
    rate = batch * shape["sequence"] / cost.seconds
    return Measurement(
        parameters, cost.seconds, rate, rate * useful, cost.peak_bytes or 0, losses
    )
