"""What page 123.2b measures: three models, five ways to run each, and the time to a first answer.

It is imported by the page's recorded cells, and by the processes that they start.
"""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

MODELS = ("MLP", "ViT", "EfficientNet-Lite0")
WAYS = ("eager", "torch.compile", "AOTInductor", "ONNX Runtime")


def model(name: str, seed: int = 0) -> nn.Module:
    """A model of ``MODELS`` in eval mode, with random weights: enough for speed and equality.

    The MLP has 86 thousand weights, the ViT (timm) 4 blocks of width 96 on 32 × 32 pictures in
    patches of 4, EfficientNet-Lite0 (timm) is the usual one, on 224 × 224.
    """
    torch.manual_seed(seed)
    if name == "MLP":
        layers = [nn.Linear(64, 256), nn.GELU(), nn.LayerNorm(256), nn.Linear(256, 256), nn.GELU()]
        return nn.Sequential(*layers, nn.LayerNorm(256), nn.Linear(256, 10)).eval()
    if name == "ViT":
        from timm.models.vision_transformer import VisionTransformer

        shape = {"img_size": 32, "patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3}
        return VisionTransformer(**shape, num_classes=10).eval()
    if name == "EfficientNet-Lite0":
        import timm

        return timm.create_model("tf_efficientnet_lite0").eval()
    raise ValueError(f"name must be one of {', '.join(MODELS)}: got {name!r}")


def inputs(name: str, rows: int, seed: int = 0) -> Tensor:
    """Random inputs: (rows, 64), (rows, 3, 32, 32) or (rows, 3, 224, 224)."""
    shape = {"MLP": (64,), "ViT": (3, 32, 32), "EfficientNet-Lite0": (3, 224, 224)}[name]
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(seed))


def ready(way: str, name: str, path: str | Path | None = None) -> Callable[[Tensor], Tensor]:
    """A model of ``MODELS`` in one of ``WAYS``, or "ONNX Runtime, uint8"; threads are torch's.

    ``path`` is the file of AOTInductor or of ONNX Runtime; the other ways have none.
    """
    from dlcourse.ml_system_design import OnnxModel, load_compiled

    if way == "AOTInductor":
        return load_compiled(path)
    if way.startswith("ONNX Runtime"):
        return OnnxModel(path, threads=torch.get_num_threads())
    eager = model(name)
    return torch.compile(eager, dynamic=True) if way == "torch.compile" else eager


@torch.no_grad()
def first_answer(way: str, name: str, path: str | None = None) -> None:
    """Print the seconds from here to a first answer, one row; torch is imported before."""
    from dlcourse.ml_system_design import compile_ahead_of_time

    torch.set_num_threads(1)
    x = inputs(name, 1)
    start = time.perf_counter()
    if way == "compiling":
        compile_ahead_of_time(model(name), (x,), path)
    elif way == "importing":
        importlib.import_module("torch._inductor.package")  # as the documented loader does
    else:
        ready(way, name, path)(x)
    print(time.perf_counter() - start)


def cold_start(way: str, name: str, path: str | Path | None, compiler_cache: str | Path) -> float:
    """Seconds to a first answer in a new process, where torch is imported and nothing else.

    ``compiler_cache`` is the folder in which the compiler keeps code and headers: an empty one is a
    server that never ran, one used before is a second start on the same disk. Two more ways: "compiling"
    writes the file of AOTInductor to ``path``, "importing" imports what loads it.
    """
    arguments = (way, name, None if path is None else str(path))
    folder = str(compiler_cache)  # headers go to the temporary folder, code to a cache of its own
    places = {"TORCHINDUCTOR_CACHE_DIR": folder, "TMPDIR": folder, "OMP_NUM_THREADS": "1"}
    return float(_in_a_process(f"first_answer(*{arguments!r})", f"{way}, {name}", **places))


@torch.no_grad()
def prepare(way: str, name: str, rows: tuple[int, ...]) -> None:
    """Let the compiler fill its cache, so that ``ready`` finds all there; prints a word at the end.

    ``rows`` are the batch sizes of "torch.compile", or those that get a file each ("fixed batch").
    """
    from dlcourse.ml_system_design import compile_once

    torch.set_num_threads(1)
    net = model(name)
    if way == "torch.compile":
        compiled = torch.compile(net, dynamic=True)
        for n in rows:
            compiled(inputs(name, n))
    elif way == "AOTInductor":
        compile_once(net, (inputs(name, 2),))
    else:
        for n in rows:
            compile_once(net, (inputs(name, n),), dynamic_batch=False)
    print("done")


def prepare_apart(way: str, name: str, rows: tuple[int, ...]) -> None:
    """``prepare`` in a process of its own: several at once use several cores."""
    _in_a_process(f"prepare({way!r}, {name!r}, {rows!r})", f"{way}, {name}", OMP_NUM_THREADS="1")


def longest_pause(call: Callable[[], object], seconds: float = 1.0) -> tuple[float, float]:
    """Seconds of a call, and for how long a thread that only counts stood still beside the calls.

    A pause as long as the call means that the call keeps Python's interpreter lock: nothing else in
    the process runs meanwhile. Both are medians over the calls that fit into ``seconds``.
    """
    took, ticks, ended = [], [time.perf_counter()], threading.Event()

    def count() -> None:
        while not ended.is_set():
            ticks.append(time.perf_counter())

    counter = threading.Thread(target=count)
    counter.start()
    spans, begin = [], time.perf_counter()
    while time.perf_counter() - begin < seconds or not spans:
        start = time.perf_counter()
        call()
        spans.append((start, time.perf_counter()))
    ended.set()
    counter.join()
    times = [b - a for a, b in spans]
    pauses = []
    for start, end in spans:  # the longest gap between two ticks that began in this call
        inside = ticks[bisect_left(ticks, start) - 1 : bisect_right(ticks, end) + 1]
        pauses.append(max((b - a for a, b in pairwise(inside)), default=0.0))
    return statistics.median(times), statistics.median(pauses)


def _in_a_process(call: str, what: str, **environment: str) -> str:
    """The last word that a call of this module prints in a new process.

    Raises RuntimeError where the process fails, or is ended by a signal.
    """
    code = f"from {__name__} import *\n{call}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{what} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout.split()[-1]


# On a GPU


class OneThread:
    """A thread that all calls go to: the CUDA graphs of torch.compile belong to one thread."""

    def __init__(self):
        from concurrent.futures import ThreadPoolExecutor

        self._pool = ThreadPoolExecutor(1)

    def call(self, function: Callable, *arguments):
        """The result of ``function(*arguments)``, run in the thread."""
        return self._pool.submit(function, *arguments).result()

    def close(self) -> None:
        self._pool.shutdown()


def vit_b16(device: str, dtype: torch.dtype, toy: bool = False) -> nn.Module:
    """timm's ViT-B/16 on 224 × 224, random weights, which takes uint8 pictures; or a small one."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    shape = {"img_size": 224, "patch_size": 16}
    if toy:
        shape = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
    net = VisionTransformer(**shape).to(device, dtype)
    return _FromBytes(net).eval()


class _FromBytes(nn.Module):
    """Pictures as they come, (n, 3, h, w) uint8, scaled to −1 … 1 on the device."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.dtype = next(net.parameters()).dtype

    def forward(self, pictures: Tensor) -> Tensor:
        return self.net(pictures.to(self.dtype) / 127.5 - 1)


@torch.no_grad()
def compile_vit(device: str, dtype: str, toy: bool, path: str) -> None:
    """Compile ``vit_b16`` ahead of time and print the largest relative difference to eager."""
    from dlcourse.ml_system_design import compile_ahead_of_time

    net = vit_b16(device, getattr(torch, dtype), toy)
    side = 32 if toy else 224
    pictures = torch.randint(256, (4, 3, side, side), dtype=torch.uint8).to(device)
    print(compile_ahead_of_time(net, (pictures,), path, tolerance=0.1).difference)


def compile_vit_apart(device: str, dtype: torch.dtype, toy: bool, path: str | Path) -> float:
    """``compile_vit`` in a process of its own, which alone ends if loaded code crashes.

    Returns the largest relative difference to eager. Raises RuntimeError where it fails.
    """
    arguments = (device, str(dtype).removeprefix("torch."), toy, str(path))
    return float(_in_a_process(f"compile_vit(*{arguments!r})", "AOTInductor"))
