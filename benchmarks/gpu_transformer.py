"""What each technique brings on a GPU: memory, speed, utilisation, losses (section 119.1a).

    python benchmarks/gpu_transformer.py

Each line is a training of its own, in fresh processes on all GPUs of the machine. Utilisation is
useful FLOPs (``flops_per_token``) over the bf16 matrix product which the same GPU reached just
before. Sized for one GPU of 139 GiB; about five minutes.
"""

from __future__ import annotations

import time

import torch

from dlcourse.large_scale_training import LaunchError, launch
from dlcourse.large_scale_training.experiments.dtypes import losses_in
from dlcourse.large_scale_training.experiments.techniques import measure_training
from dlcourse.measure import matmul_peak

MEDIUM = dict(vocabulary=32_768, sequence=2048, width=2048, layers=24, heads=16)  # 1.3 billion
LARGE = dict(vocabulary=32_768, sequence=2048, width=4096, layers=32, heads=32)  # 6.7 billion
TINY = dict(vocabulary=256, sequence=512, width=768, layers=12, heads=12)  # 85 million
RUNS = [
    ("1.3 B", MEDIUM, 8, ()),
    ("1.3 B", MEDIUM, 8, ("bf16",)),
    ("1.3 B", MEDIUM, 8, ("bf16", "checkpointing")),
    ("1.3 B", MEDIUM, 8, ("bf16", "compile")),
    ("1.3 B", MEDIUM, 8, ("bf16", "checkpointing", "compile")),
    ("6.7 B", LARGE, 8, ("bf16", "compile")),  # expected not to fit without checkpointing
    ("6.7 B", LARGE, 8, ("bf16", "checkpointing", "compile")),
]


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a GPU")
    start, gpus = time.perf_counter(), torch.cuda.device_count()
    [peak] = launch(matmul_peak, 1)
    print(f"{gpus} × {torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(f"bf16 matrix product: {peak / 1e12:.0f} TFLOP/s\n")
    print("| model | techniques | GiB a GPU | tokens/s a GPU | TFLOP/s | MFU |")
    print("|---|---|---|---|---|---|")
    for name, shape, batch, techniques in RUNS:
        label = " + ".join(techniques) or "fp32"
        try:
            result = launch(measure_training, gpus, shape, batch, techniques, 5, time_limit=150)[0]
        except LaunchError as error:
            if "OutOfMemoryError" not in str(error):
                raise
            print(f"| {name} | {label} | does not fit | | | |", flush=True)
            continue
        print(
            f"| {name} | {label} | {result.peak_memory / 2**30:.1f} | "
            f"{result.tokens_per_second:,.0f} | {result.flops_per_second / 1e12:.0f} | "
            f"{result.flops_per_second / peak:.1%} |",
            flush=True,
        )

    print("\n| step | fp32 | bf16 | fp16 |\n|---|---|---|---|")
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    curves = [launch(losses_in, 1, dtype, TINY, 16, 150)[0] for dtype in dtypes]
    for step in (0, 24, 49, 74, 99, 124, 149):
        print(f"| {step + 1} | " + " | ".join(f"{curve[step]:.4f}" for curve in curves) + " |")
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
