"""What a step of training costs: arithmetic counted on paper, memory and time measured.

Chapter: ``120_self_supervised_learning`` (the sections' cells on cost and on the GPU).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlcourse.self_supervised_learning.masked_autoencoders import MaskedAutoencoder, visible_count
from dlcourse.self_supervised_learning.vision_transformer import Block


# --- On paper --------------------------------------------------------------------------------


def transformer_flops(tokens: int, dim: int, depth: int, mlp_ratio: float = 4.0) -> float:
    """Floating-point operations of the forward pass of ``depth`` blocks over one example.

    A multiplication and an addition count as two. Matrix products only: with n tokens of width D,
    a block's projections and MLP take 2 n D² (4 + 2 · mlp_ratio), its attention 4 n² D.
    """
    return depth * (2 * tokens * dim**2 * (4 + 2 * mlp_ratio) + 4 * tokens**2 * dim)


def masked_autoencoder_flops(model: MaskedAutoencoder, mask_ratio: float | None = None) -> float:
    """Operations of ``model.training_loss`` for one image, forward; a step takes three times that.

    Args:
        mask_ratio: in place of the model's own; 0 counts an encoder that sees everything.
    """
    encoder, blocks = model.encoder, model.decoder_blocks
    ratio = model.mask_ratio if mask_ratio is None else mask_ratio
    n, d = encoder.num_patches, encoder.embed_dim
    visible = n if ratio == 0 else visible_count(n, ratio)
    hidden = n - visible
    pixels, wide = model.to_pixels.out_features, model.to_pixels.in_features

    flops = 2 * visible * pixels * d  # the embedding of the patches
    flops += transformer_flops(1 + visible, d, len(encoder.blocks), _mlp_ratio(encoder.blocks[0]))
    flops += 2 * (1 + visible) * d * wide  # to the decoder's width
    mlp = _mlp_ratio(blocks[0])
    flops += transformer_flops(1 + n, wide, len(blocks) - 1, mlp)
    # The last block: keys and values of all tokens, the rest for the hidden ones.
    flops += 2 * wide**2 * (2 * (1 + n) + (2 + 2 * mlp) * hidden) + 4 * hidden * (1 + n) * wide
    return flops + 2 * hidden * wide * pixels


def transformer_activations(tokens: int, dim: int, depth: int, mlp_ratio: float = 4.0) -> float:
    """About how many numbers ``depth`` blocks keep for the backward pass over one example.

    For each token and block: the inputs of both norms (2 D), of the projections and the MLP (3 D),
    queries, keys, values (3 D), the attention's result (D), and the MLP's hidden layer before and
    after the GELU. Attention weights are not kept by a fused kernel.

    Source: Korthikanti et al. (2022), section 4.1, without dropout and attention weights.
    """
    return tokens * dim * depth * (9 + 2 * mlp_ratio)


def _mlp_ratio(block: Block) -> float:
    return block.mlp[0].out_features / block.mlp[0].in_features


# --- Measured --------------------------------------------------------------------------------


def saved_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes that ``forward()`` keeps for its backward pass, the model's parameters not counted.

    Exact, and the same in every run: autograd hands each tensor that it keeps to a hook.
    """
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}  # address → bytes; two views of one storage count once

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()  # held until all is counted, so that no address is used twice
    total = sum(kept.values())
    del result
    return total


def training_step(
    loss: Callable[[], Tensor],
    parameters: Iterable[nn.Parameter],
    dtype: torch.dtype | None = None,
) -> Callable[[], None]:
    """A function that takes one whole step: forward, backward, AdamW.

    Args:
        loss: computes the loss of the next batch.
        parameters: which AdamW moves; its fused form, all tensors in one kernel.
        dtype: of matrix products under autocast; None computes in the parameters' own.
    """
    parameters = [p for p in parameters if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), fused=True)
    kind = parameters[0].device.type

    def step() -> None:
        with torch.autocast(kind, dtype, enabled=dtype is not None):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


@dataclass(frozen=True)
class StepCost:
    """What ``measure_step`` saw."""

    seconds: float  # of one step, the median
    first_seconds: float  # of the first, which compiles what is to be compiled
    peak_bytes: int | None  # most memory of the GPU that tensors held; None on a CPU


def measure_step(
    step: Callable[[], object], device: torch.device, *, warmup: int = 3, repeats: int = 15
) -> StepCost:
    """Time of a step and its peak memory.

    On a CPU it is the processor's time, of all threads, which other processes disturb little.
    """
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)

    def timed() -> float:
        clock = time.perf_counter if cuda else time.process_time
        begin = clock()
        step()
        if cuda:
            torch.cuda.synchronize(device)
        return clock() - begin

    first = timed()
    for _ in range(warmup):
        timed()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = statistics.median(timed() for _ in range(repeats))
    return StepCost(seconds, first, torch.cuda.max_memory_allocated(device) if cuda else None)


def matmul_flops_per_second(
    device: torch.device, dtype: torch.dtype, size: int = 8192, repeats: int = 15
) -> float:
    """Rate of a square matrix product: what utilisation is measured against."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / measure_step(lambda: a @ b, device, repeats=repeats).seconds
