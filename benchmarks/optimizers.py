"""Step times of Lion and AdamW Schedule-Free beside their peers, and the bytes that they move.

    python benchmarks/optimizers.py [--quick] [--device cpu|cuda] [--repetitions N]

Every optimizer steps the same shapes: "many", the tensors of a transformer, and "few", one square
matrix with about as many numbers. The repetitions of all are interleaved, and the smallest time of
each counts, so that another process on the machine disturbs all alike. On a CPU one thread is used.
GB/s is the bytes that a step must move (each tensor read or written once) over the time; the line
"copy" is the same for a plain copy of a tensor, which no step can much surpass.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from dlcourse.large_scale_training import AdamWScheduleFree, Lion
from dlcourse.measure import interleaved, time_call

LION, SCHEDULE_FREE, ADAMW = "Lion", "Schedule-Free", "AdamW"
# float32 tensors which a step reads and writes: Lion p, g, m → p, m; the others p, g and two
# state tensors → p and these two.
TENSORS_MOVED = {LION: 5, SCHEDULE_FREE: 7, ADAMW: 7}


def transformer_shapes(blocks: int, width: int) -> list[tuple[int, ...]]:
    """Shapes of the 12 parameter tensors of each block (attention, MLP, two norms)."""
    block = [
        *[(3 * width, width), (3 * width,), (width, width), (width,)],
        *[(4 * width, width), (4 * width,), (width, 4 * width), (width,)],
        *[(width,), (width,), (width,), (width,)],
    ]
    return block * blocks


@dataclass
class Entry:
    """One optimizer in one form, with its own copy of the parameters."""

    family: str
    name: str
    step: Callable[[], object]
    numbers: int
    first_seconds: float = 0.0
    best: float = float("inf")

    @property
    def bytes_moved(self) -> int:
        return TENSORS_MOVED[self.family] * 4 * self.numbers


def candidates(device: str) -> list[tuple[str, str, Callable]]:
    """(family, name, how to make the optimizer), with the peers that are installed."""
    decay = {"lr": 1e-4, "weight_decay": 0.1}
    found = [
        (family, f"dlcourse {form}", lambda p, m=make, f=form: m(p, **decay, implementation=f))
        for family, make in ((LION, Lion), (SCHEDULE_FREE, AdamWScheduleFree))
        for form in ("loop", "foreach", "compiled")
    ]
    if lion_pytorch := optional_import("lion_pytorch"):
        found.append((LION, "lion-pytorch", lambda p: lion_pytorch.Lion(p, **decay)))
    if schedulefree := optional_import("schedulefree"):
        for name, foreach in (("loop", False), ("foreach", True)):
            found.append(
                (
                    SCHEDULE_FREE,
                    f"schedulefree {name}",
                    lambda p, f=foreach: schedulefree.AdamWScheduleFree(p, **decay, foreach=f),
                )
            )
    for name in ("foreach", "fused"):
        found.append(
            (ADAMW, f"torch {name}", lambda p, n=name: torch.optim.AdamW(p, **decay, **{n: True}))
        )
    return found


def optional_import(name: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: left out")
        return None


def make_entry(family: str, name: str, make: Callable, shapes: list, device: str) -> Entry:
    generator = torch.Generator(device).manual_seed(0)
    params = [
        nn.Parameter(0.02 * torch.randn(s, generator=generator, device=device)) for s in shapes
    ]
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator, device=device)
    optimizer = make(params)
    if hasattr(optimizer, "train"):
        optimizer.train()
    entry = Entry(family, name, optimizer.step, sum(p.numel() for p in params))
    entry.first_seconds = time_call(entry.step, device)  # creates the state, and compiles
    return entry


def copy_bandwidth(device: str, numbers: int, repetitions: int) -> float:
    """Bytes a second of a plain copy: what is read and what is written."""
    source, target = (torch.ones(numbers, device=device) for _ in range(2))
    best = min(time_call(lambda: target.copy_(source), device) for _ in range(repetitions))
    return 2 * 4 * numbers / best


def measure(shapes: list[tuple[int, ...]], device: str, repetitions: int) -> list[Entry]:
    entries = [
        make_entry(family, name, make, shapes, device)
        for family, name, make in candidates(device)
    ]
    times = interleaved(
        {f"{e.family}, {e.name}": e.step for e in entries}, device, repeats=repetitions, warmup=0
    )
    for entry, seconds in zip(entries, times.values(), strict=True):
        entry.best = min(seconds)
    return entries


def report(title: str, entries: list[Entry], bandwidth: float) -> None:
    numbers = entries[0].numbers
    print(f"\n{title}: {numbers / 1e6:.1f} M numbers; copy: {bandwidth / 1e9:.1f} GB/s")
    print(f"{'':30}{'ms':>9}{'ratio':>8}{'MB moved':>10}{'GB/s':>8}{'first step s':>14}")
    for family in (LION, SCHEDULE_FREE, ADAMW):
        members = [e for e in entries if e.family == family]
        peers = [e for e in members if not e.name.startswith("dlcourse")]
        peer = min(peers, key=lambda e: e.best, default=None)
        for e in members:
            ratio = f"{e.best / peer.best:.2f}" if peer else "–"
            print(
                f"{family + ', ' + e.name:30}{1000 * e.best:9.2f}{ratio:>8}"
                f"{e.bytes_moved / 1e6:10.0f}{e.bytes_moved / e.best / 1e9:8.1f}"
                f"{e.first_seconds:14.2f}"
            )
    print("ratio: to the fastest form of the family's peer library")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="small shapes, few repetitions")
    parser.add_argument("--repetitions", type=int, help="default 40, with --quick 3")
    args = parser.parse_args()

    if args.device == "cpu":
        torch.set_num_threads(1)
        blocks, width, side = (2, 64, 300) if args.quick else (13, 256, 3162)
    else:
        blocks, width, side = (2, 64, 300) if args.quick else (14, 768, 9960)
    repetitions = args.repetitions or (3 if args.quick else 40)
    shapes = {
        f"many ({12 * blocks} tensors)": transformer_shapes(blocks, width),
        "few (1 tensor)": [(side, side)],
    }
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU, one thread"
    print(f"torch {torch.__version__}, {where}; the smallest of {repetitions} interleaved times")
    for title, tensors in shapes.items():
        bandwidth = copy_bandwidth(args.device, side * side, repetitions)
        report(title, measure(tensors, args.device, repetitions), bandwidth)


if __name__ == "__main__":
    main()
