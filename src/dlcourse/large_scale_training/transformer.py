"""A small decoder-only transformer and the measuring of its training (section 119.1a).

The model is as plain as possible, so that what is measured is the training: pre-norm blocks
(Vaswani et al. 2017; Xiong et al. 2020), learned positions, attention by
``scaled_dot_product_attention``.
"""

from __future__ import annotations

import functools
import sysconfig
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TECHNIQUES = ("bf16", "checkpointing", "compile")


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); (batch, tokens, width) to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, w = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, w // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, tokens, width / heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, w))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Transformer(nn.Module):
    """Token indices (batch, tokens) to logits (batch, tokens, vocabulary).

    Raises ValueError if ``heads`` does not divide ``width``, or, when called, if there are more
    tokens than ``sequence``.
    """

    def __init__(
        self, *, vocabulary: int, sequence: int, width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(sequence, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():  # GPT-2's: a loss of log(vocabulary) at the start
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        for block in self.blocks:  # the residual stream is a sum of 2 · layers terms
            for linear in (block.out, block.down):
                nn.init.normal_(linear.weight, std=0.02 / (2 * layers) ** 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        t = tokens.shape[1]
        if t > self.position.num_embeddings:
            raise ValueError(f"{t} tokens, but positions for {self.position.num_embeddings}")
        x = self.token(tokens) + self.position.weight[:t]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def language_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats a token; logits (batch, tokens, vocabulary), in float32."""
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def flops_per_token(model: Transformer, sequence: int) -> float:
    """Useful FLOPs of a training step a token: 6 a weight of a matrix product (2 forward, 4
    backward; embeddings are looked up, not multiplied), and 6 · layers · width · sequence for
    attention: half of PaLM's 12 (Chowdhery et al. 2022, appendix B), since a causal kernel skips
    what the mask hides. What is computed again by checkpointing does not count.
    """
    weights = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    weights -= model.token.weight.numel() + model.position.weight.numel()
    width = model.token.embedding_dim
    return 6 * weights + 6 * len(model.blocks) * width * sequence


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


def matmul_peak(
    dtype: torch.dtype = torch.bfloat16, *, size: int = 8192, device: str = "cuda"
) -> float:
    """The FLOP/s that this device reaches in a (size × size) matrix product: the best of many, as
    the measure of what is possible. A data sheet's figure is higher than any product reaches."""
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(30):
        _synchronize(device)
        start = time.perf_counter()
        a @ b
        _synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


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
    from dlcourse.large_scale_training.infrastructure import distributed, shard

    if unknown := set(techniques) - set(TECHNIQUES):
        raise ValueError(f"unknown techniques {sorted(unknown)}: choose from {TECHNIQUES}")
    with distributed() as world:
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

        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times, losses = [], []
        for _ in range(3 + steps):
            start = time.perf_counter()
            optimizer.zero_grad()
            loss = language_loss(model(tokens[:, :-1]), tokens[:, 1:])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())  # waits for the device
            _synchronize(device.type)
            times.append(time.perf_counter() - start)
        step_time = sorted(times[3:])[steps // 2]
        rate = batch * shape["sequence"] / step_time
        peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
        return Measurement(parameters, step_time, rate, rate * useful, peak, losses)


def source_code_batch(step: int, batch: int, sequence: int) -> tuple[Tensor, Tensor]:
    """Bytes of Python's own standard library: real text that lies on every machine.

    Returns inputs and targets, each (batch, sequence) of 0 .. 255, the same for the same ``step``.
    """
    data = _source_code()
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(data) - sequence - 1, (batch,), generator=generator)
    rows = torch.stack([data[s : s + sequence + 1] for s in starts.tolist()]).long()
    return rows[:, :-1], rows[:, 1:]


@functools.cache
def _source_code() -> Tensor:
    folder = Path(sysconfig.get_path("stdlib"))
    text = b"".join(file.read_bytes() for file in sorted(folder.glob("*.py"))[:100])
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def losses_in(
    dtype: torch.dtype, shape: dict[str, int], batch: int, steps: int, *, device: str = "cuda"
) -> list[float]:
    """Losses of ``steps`` steps with ``MixedPrecision(dtype)`` on ``source_code_batch``: the same
    start and the same data for each dtype."""
    from dlcourse.large_scale_training.mixed_precision import MixedPrecision

    torch.manual_seed(0)
    model = Transformer(**shape).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    amp = MixedPrecision(dtype, max_grad_norm=1.0)
    losses = []
    for step in range(steps):
        inputs, targets = source_code_batch(step, batch, shape["sequence"])
        losses.append(
            amp.step(model, optimizer, language_loss, inputs.to(device), targets.to(device))
        )
    return losses


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
