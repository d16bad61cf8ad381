"""How fast a step of the masked autoencoder is on a GPU, beside transformers', and where time goes.

Chapter: ``120_self_supervised_learning/2_masked_autoencoders`` (a recorded cell). Needs
transformers. Runs on a CPU too, at tiny sizes, which is how it is tested.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dlcourse.datasets import render_shapes, shape_factors
from dlcourse.measure import interleaved, matmul_peak, measure_step, time_call
from dlcourse.self_supervised_learning.experiments.masked_autoencoder_cost import (
    masked_autoencoder_flops,
    training_step,
)
from dlcourse.self_supervised_learning.masked_autoencoders.masking import visible_count
from dlcourse.self_supervised_learning.masked_autoencoders.model import MaskedAutoencoder
from dlcourse.self_supervised_learning.peers import transformers_autoencoder
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

__all__ = [
    "REST",
    "SpeedSizes",
    "attention_times",
    "compile_blocks",
    "kind_of_kernel",
    "measure_speed",
    "profiled",
    "report_speed",
]

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
# What a kernel does, by a part of its name; the first that fits counts.
KINDS = {
    "attention": ("flash", "fmha", "sdpa", "attention"),
    "matrix products": ("gemm", "nvjet", "cutlass", "xmma", "cublas", "::mm", "::addmm", "::bmm"),
    "optimizer": ("adam", "multi_tensor"),
    "copies": ("memcpy", "memset", "copy", "fillfunctor"),
}
REST = "norms, GELU, sums, casts"
# Not kernels, but names around several of them, whose time would count twice.
AROUND = ("optimizer.", "torch-compiled region", "compiledfunction", "## call", "profilerstep")


@dataclass(frozen=True)
class SpeedSizes:
    """The defaults are the paper's: ViT-B/16 on 224 × 224 pixels, a decoder of 8 blocks of 512."""

    image: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    ratio: float = 0.75
    batch: int = 256

    @property
    def patches(self) -> int:
        """Of an image."""
        return (self.image // self.patch) ** 2

    def ours(self) -> MaskedAutoencoder:
        """Our model of these sizes."""
        encoder = VisionTransformer(self.image, self.patch, 3, self.width, self.depth, self.heads)
        return MaskedAutoencoder(
            encoder, self.decoder_width, self.decoder_depth, self.decoder_heads, self.ratio
        )

    def theirs(self) -> nn.Module:
        """The same model of transformers'."""
        return transformers_autoencoder(
            self.image, self.patch, embed_dim=self.width, depth=self.depth, num_heads=self.heads,
            decoder_dim=self.decoder_width, decoder_depth=self.decoder_depth,
            decoder_heads=self.decoder_heads, mask_ratio=self.ratio,
        )  # fmt: skip


def compile_blocks(model: nn.Module) -> None:
    """Compile every block of a transformer, in place.

    Blocks that are alike share their kernels, so it takes seconds, where one graph of the whole
    model takes most of a minute.
    """
    for part in model.modules():
        if isinstance(part, nn.ModuleList):
            for block in part:
                block.compile(dynamic=False)


def attention_times(
    sizes: SpeedSizes, device: torch.device, dtype: torch.dtype, *, repeats: int = 10
) -> dict[str, float]:
    """Seconds of attention, forward and backward, in all blocks of a step, by each kernel there is.

    Kernels that this device lacks, or that refuse these shapes, are left out.
    """
    visible = 1 + visible_count(sizes.patches, sizes.ratio)
    shapes = (
        (visible, sizes.width, sizes.heads, sizes.depth),
        (1 + sizes.patches, sizes.decoder_width, sizes.decoder_heads, sizes.decoder_depth),
    )
    found = {}
    for name, backend in BACKENDS.items():
        total = 0.0
        try:
            for tokens, width, heads, depth in shapes:
                qkv = torch.randn(sizes.batch, tokens, 3 * width, device=device, dtype=dtype)
                qkv.requires_grad_()

                def call(
                    qkv: Tensor = qkv, heads: int = heads, backend: SDPBackend = backend
                ) -> None:
                    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
                    with sdpa_kernel(backend):
                        F.scaled_dot_product_attention(q, k, v).sum().backward()
                    qkv.grad = None

                for _ in range(2):
                    call()
                times = [time_call(call, device) for _ in range(repeats)]
                total += depth * statistics.median(times)
        except RuntimeError:
            continue
        found[name] = total
    return found


@contextlib.contextmanager
def _attention(name: str | None) -> Iterator[None]:
    """Attention by one kernel; None leaves the choice to PyTorch."""
    with sdpa_kernel(BACKENDS[name]) if name else contextlib.nullcontext():
        yield


def profiled(
    step: Callable[[], object], device: torch.device, *, repeats: int = 3
) -> dict[str, float]:
    """Seconds of a step by the kind of its kernels; on a CPU, of its operations."""
    from torch.profiler import ProfilerActivity, profile

    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]
    with profile(activities=activities, acc_events=True) as seen:
        for _ in range(repeats):
            step()
        if cuda:
            torch.cuda.synchronize(device)
    found = dict.fromkeys([*KINDS, REST], 0.0)
    for event in seen.key_averages():
        time = event.self_device_time_total if cuda else event.self_cpu_time_total
        if not event.key.lower().startswith(AROUND):
            found[kind_of_kernel(event.key)] += time / 1e6 / repeats
    return found


def kind_of_kernel(kernel: str) -> str:
    """What a kernel does, by its name."""
    name = kernel.lower()
    if name.startswith("triton_"):  # what the compiler made: it lists all that it fused
        return REST
    return next((k for k, parts in KINDS.items() if any(part in name for part in parts)), REST)


def measure_speed(
    device: torch.device,
    sizes: SpeedSizes = SpeedSizes(),
    *,
    repeats: int = 20,
    ratios: Sequence[float] = (0.005, 0.5, 0.75, 0.9),
    compiled: bool = True,
    peak_size: int = 8192,
) -> dict[str, Any]:
    """What a recorded cell keeps. A step is forward, backward and a fused AdamW.

    - ``peak``: FLOP/s of a large bfloat16 product; ``gflop``: of one image and step; ``batch``.
    - ``attention``: ``attention_times``; ``kernel``: the quickest of these, which both compiled
      models use (None: PyTorch's choice).
    - ``speed``: form → who → images a second, one for each of the repeats, in which ours and
      transformers' take turns; ``memory``: form → who → peak bytes (None on a CPU).
    - ``profile``: seconds by kind of kernel, of ours in the last form.
    - ``ratios``: of ours in bfloat16, not compiled: ratio → images a second, GFLOP of an image and
      step, peak bytes.
    """
    bf16 = torch.bfloat16
    generator = torch.Generator(device).manual_seed(0)
    images = render_shapes(shape_factors(sizes.batch, generator), sizes.image)
    peak = matmul_peak(device, bf16, size=peak_size)
    attention = attention_times(sizes, device, bf16)
    quickest = min(attention, key=attention.get) if attention else None
    weights: dict[str, int] = {}

    def noise() -> Tensor:
        return torch.rand(sizes.batch, sizes.patches, device=device)

    def step_of(
        model: nn.Module, dtype: torch.dtype | None, kernel: str | None
    ) -> Callable[[], None]:
        def loss() -> Tensor:
            with _attention(kernel):
                if isinstance(model, MaskedAutoencoder):
                    return model.training_loss(images, noise())
                return model(images, noise=noise()).loss

        return training_step(loss, model.parameters(), dtype)

    def made(
        dtype: torch.dtype | None, blocks: bool, kernel: str | None
    ) -> dict[str, Callable[[], None]]:
        steps = {}
        for who, make in (("ours", sizes.ours), ("transformers", sizes.theirs)):
            model = make().to(device)
            weights[who] = sum(p.numel() for p in model.parameters() if p.requires_grad)
            if blocks:
                compile_blocks(model)
            steps[who] = step_of(model, dtype, kernel)
            steps[who]()  # compiles, and raises where a kernel refuses
        return steps

    forms = {"float32 (TF32)": (None, False), "bfloat16": (bf16, False)}
    if compiled:
        forms["bfloat16, compiled blocks"] = (bf16, True)
    speed: dict[str, dict[str, list[float]]] = {}
    memory: dict[str, dict[str, float | None]] = {}
    steps: dict[str, Callable[[], None]] = {}
    for form, (dtype, blocks) in forms.items():
        steps.clear()
        _free(device)
        try:
            steps.update(made(dtype, blocks, quickest if blocks else None))
        except RuntimeError as error:
            if not blocks or quickest is None:
                raise
            print(f"{quickest} attention in compiled blocks: {str(error).splitlines()[0]}")
            quickest = None
            torch.compiler.reset()
            steps.update(made(dtype, blocks, None))
        count = repeats if blocks else max(3, repeats // 3)
        times = interleaved(steps, device, repeats=count, warmup=2)
        speed[form] = {who: [sizes.batch / s for s in seconds] for who, seconds in times.items()}
        memory[form] = {}
        for who, step in steps.items():  # the other model lies there too: 4 bytes a weight, 8 AdamW
            held = measure_step(step, device, warmup=0, repeats=1).peak_bytes
            others = sum(count for name, count in weights.items() if name != who)
            memory[form][who] = held and held - 12 * others
    kinds = profiled(steps["ours"], device)
    steps.clear()
    torch.compiler.reset()

    by_ratio = {}
    for ratio in ratios:
        _free(device)
        model = replace(sizes, ratio=ratio).ours().to(device)
        cost = measure_step(step_of(model, bf16, None), device, repeats=max(3, repeats // 2))
        by_ratio[f"{ratio:g}"] = {
            "speed": sizes.batch / cost.seconds,
            "gflop": 3 * masked_autoencoder_flops(model) / 1e9,
            "bytes": cost.peak_bytes,
        }
        del model
    return {
        "peak": peak,
        "gflop": 3 * masked_autoencoder_flops(sizes.ours()) / 1e9,
        "batch": sizes.batch,
        "attention": attention,
        "kernel": quickest,
        "speed": speed,
        "memory": memory,
        "profile": kinds,
        "ratios": by_ratio,
    }


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def report_speed(found: Mapping[str, Any]) -> None:
    """Print what ``measure_speed`` found."""
    print(f"batch {found['batch']}; {found['gflop']:.0f} GFLOP an image and step; ", end="")
    print(f"bfloat16 product {found['peak'] / 1e12:.0f} TFLOP/s")
    listed = ", ".join(f"{name} {1000 * s:.1f} ms" for name, s in found["attention"].items())
    print(f"attention of a step: {listed or 'no kernel by itself'}")
    print(f"compiled with: {found['kernel'] or 'the choice of PyTorch'}")
    print(f"{'':40}{'images/s':>9}{'MFU':>6}{'peak, GB':>10}")
    for form, by in found["speed"].items():
        for who, speeds in by.items():
            middle = statistics.median(speeds)
            used = middle * found["gflop"] * 1e9 / found["peak"]
            held = (found["memory"][form][who] or 0) / 1e9
            print(f"{who + ', ' + form:40}{middle:9.0f}{used:6.0%}{held:10.1f}")
    print(f"time of a step of ours, {form}, by kind of kernel:")
    total = sum(found["profile"].values())
    for kind, seconds in found["profile"].items():
        print(f"  {kind:38}{1000 * seconds:9.2f} ms{seconds / total:6.0%}")
    print(f"{'mask ratio, bfloat16':40}{'images/s':>9}{'peak, GB':>16}")
    for ratio, row in found["ratios"].items():
        print(f"{ratio:40}{row['speed']:9.0f}{(row['bytes'] or 0) / 1e9:16.1f}")
