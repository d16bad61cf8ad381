"""What a second GPU brings: speed, hidden messages, the cost of a message.

Chapter: ``119_large_scale_training/1a_distributed`` (its recorded cells for two GPUs). Each
function runs on every rank, such as ``launch(measure_scaling, 2, shape, larger)``; with gloo on CPUs it does
the same with less to see.
"""

from __future__ import annotations

import gc
import json
import statistics
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from dlcourse.large_scale_training.distributed.averaging import reduces_gradients
from dlcourse.large_scale_training.distributed.communication import time_all_reduce
from dlcourse.large_scale_training.distributed.sharding import shard
from dlcourse.large_scale_training.distributed.world import distributed
from dlcourse.large_scale_training.experiments.techniques import (
    checkpoint_blocks,
    flops_per_token,
)
from dlcourse.large_scale_training.transformer import Transformer, language_loss
from dlcourse.measure import interleaved, matmul_peak

__all__ = [
    "Job",
    "Speed",
    "measure_messages",
    "measure_scaling",
    "need_gpus",
    "overlap",
    "spread",
    "total_length",
]

Interval = tuple[float, float]


def need_gpus(number: int) -> None:
    """Raise RuntimeError where this machine has fewer GPUs."""
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if here < number:
        raise RuntimeError(f"this cell needs a machine with {number} GPUs; here are {here}")


class Job:
    """A sharded ``Transformer(**shape)`` with its optimizer and a batch of random tokens, all of it
    bfloat16 over float32 master weights, on this rank's device."""

    def __init__(
        self,
        shape: dict[str, int],
        batch: int,
        device: torch.device,
        *,
        mesh: DeviceMesh | None = None,
        checkpointing: bool = False,
    ) -> None:
        torch.manual_seed(0)
        with device:  # initialising billions of weights on the CPU would take minutes
            self.model = Transformer(**shape)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.useful = flops_per_token(self.model, shape["sequence"])
        if checkpointing:
            checkpoint_blocks(self.model)
        shard(self.model, param_dtype=torch.bfloat16, mesh=mesh)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        generator = torch.Generator(device).manual_seed(dist.get_rank())
        size = (batch, shape["sequence"] + 1)
        self.tokens = torch.randint(shape["vocabulary"], size, generator=generator, device=device)
        self.losses: list[float] = []
        _free(device)  # the whole weights, of which only a part is left

    def step(self, micro_batches: int = 1, reduce_each: bool = True) -> None:
        """One step, from the sum over micro-batches; gradients reduced after each, or once."""
        self.optimizer.zero_grad()
        total = 0.0
        for k, part in enumerate(self.tokens.chunk(micro_batches)):
            with reduces_gradients(self.model, reduce_each or k == micro_batches - 1):
                loss = language_loss(self.model(part[:, :-1]), part[:, 1:]) / micro_batches
                loss.backward()
            total += loss.detach()
        self.optimizer.step()
        self.losses.append(float(total))  # waits for the device


@dataclass(frozen=True)
class Speed:
    """Of one rank."""

    parameters: int
    useful: float  # FLOPs a token
    seconds: list[float]  # of each step
    tokens: int  # a step
    peak_bytes: int  # most memory of the GPU that tensors held; 0 on a CPU
    losses: list[float]


def measure_scaling(
    shape: dict[str, int], larger: dict[str, int], batch: int = 8, steps: int = 10, warmup: int = 4
) -> dict[str, Any]:
    """The same model on one GPU and sharded over all, steps in turn, so that both see the same
    machine; then a larger model which needs all of them, with activation checkpointing.

    "alone": every rank trains its own, sharded over itself only. Returns ``Speed`` for "alone",
    "together" and "larger", and "peak", the FLOP/s of the best bfloat16 matrix product (None on a
    CPU).
    """
    with distributed() as world:
        device, ranks = world.device, world.world_size
        peak = matmul_peak(device) if device.type == "cuda" else None
        grid = init_device_mesh(device.type, (ranks, 1), mesh_dim_names=("apart", "alone"))
        jobs = {
            "alone": Job(shape, batch, device, mesh=grid["alone"]),
            "together": Job(shape, batch, device),
        }
        found: dict[str, Any] = {"peak": peak}
        found |= _speeds(jobs, device, batch * shape["sequence"], steps, warmup)
        jobs.clear()
        _free(device)
        job = {"larger": Job(larger, batch, device, checkpointing=True)}
        found |= _speeds(job, device, batch * larger["sequence"], max(2, steps // 2), 2)
        return found


def _speeds(
    jobs: dict[str, Job], device: torch.device, tokens: int, steps: int, warmup: int
) -> dict[str, Speed]:
    peaks = dict.fromkeys(jobs, 0)

    def timed(name: str) -> Callable[[], None]:
        def step() -> None:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            jobs[name].step()
            jobs[name].optimizer.zero_grad()
            if device.type == "cuda":
                peaks[name] = torch.cuda.max_memory_allocated(device)

        return step

    seconds = interleaved(
        {name: timed(name) for name in jobs}, device, repeats=steps, warmup=warmup
    )
    return {
        name: Speed(
            job.parameters, job.useful, seconds[name], tokens, peaks[name], list(job.losses)
        )
        for name, job in jobs.items()
    }


def measure_messages(
    shape: dict[str, int],
    sizes: Sequence[int],
    batch: int = 8,
    repeats: int = 5,
    micro_batches: int = 4,
) -> dict[str, Any]:
    """What messages cost: all-reduces over NCCL (on GPUs) and gloo; how much of them the work of a
    sharded step hides; and a step of accumulation with a reduction for each micro-batch and with
    one.

    Returns "gloo" and, on GPUs, "nccl" (median seconds for each size; gloo's up to 64 MiB), "step"
    (``overlap``'s shares; None on a CPU), "each" and "once" (seconds of each step, in turn).
    """
    with distributed() as world:
        device = world.device
        cuda = device.type == "cuda"
        small = [n for n in sizes if n <= 2**26]
        found: dict[str, Any] = {"gloo": time_all_reduce(small, repeats=repeats, device="cpu")}
        if cuda:
            found["nccl"] = time_all_reduce(sizes, repeats=2 * repeats + 1, device="cuda")
        job = Job(shape, batch, device)
        for _ in range(3):
            job.step()
        found["step"] = _profile(job.step, 2) if cuda else None
        times = interleaved(
            {
                "each": lambda: job.step(micro_batches, reduce_each=True),
                "once": lambda: job.step(micro_batches, reduce_each=False),
            },
            device,
            repeats=repeats,
            warmup=2,
        )
        return found | times


def _profile(step: Callable[[], object], steps: int) -> dict[str, float]:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trace.json")
        seen.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    return overlap(events)


def overlap(events: Collection[dict[str, Any]]) -> dict[str, float]:
    """From a profiler's trace: seconds in which NCCL's kernels ran, in which others did, and the
    share of the first during which others ran too. A kernel of NCCL also waits for the other rank.

    Raises ValueError for a trace without NCCL's kernels.
    """
    kernels = [e for e in events if e.get("cat") == "kernel"]
    messages = [(e["ts"], e["ts"] + e["dur"]) for e in kernels if "nccl" in e["name"].lower()]
    work = [(e["ts"], e["ts"] + e["dur"]) for e in kernels if "nccl" not in e["name"].lower()]
    if not messages:
        raise ValueError(f"no kernel of NCCL among the {len(kernels)} kernels of the trace")
    alone, busy = total_length(messages), total_length(work)
    both = alone + busy - total_length([*messages, *work])
    return {"messages": alone / 1e6, "work": busy / 1e6, "hidden": both / alone}


def total_length(intervals: Collection[Interval]) -> float:
    """Length of the union of intervals."""
    length, end = 0.0, float("-inf")
    for begin, stop in sorted(intervals):
        length += max(0.0, stop - max(begin, end))
        end = max(end, stop)
    return length


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def spread(seconds: Sequence[float], tokens: int) -> tuple[float, float, float]:
    """Tokens a second: the median, the least and the most."""
    return tokens / statistics.median(seconds), tokens / max(seconds), tokens / min(seconds)
