"""Which device a run uses, found without importing torch."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path


def torch_build() -> dict[str, str | None]:
    """``{"version", "cuda", "hip"}`` of the installed torch, read from its version file.

    All values are None when torch is not installed.
    """
    found: dict[str, str | None] = {"version": None, "cuda": None, "hip": None}
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return found
    version_file = Path(spec.origin).with_name("version.py")
    text = version_file.read_text(encoding="utf8") if version_file.exists() else ""
    names = {"version": "__version__", "cuda": "cuda", "hip": "hip"}
    for key, name in names.items():
        match = re.search(rf"^{name}\b[^=\n]*=\s*'([^']*)'", text, re.MULTILINE)
        found[key] = match.group(1) if match else None
    found["version"] = found["version"] or metadata.version("torch")
    return found


@lru_cache(maxsize=1)
def gpu_names() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs that the driver lists; empty where there is none."""
    if not shutil.which("nvidia-smi"):
        return ()
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if done.returncode == 0)


def gpu_available() -> bool:
    """Whether gpu cells can run here: a GPU, and a torch built for CUDA.

    The environment variable DLCOURSE_GPU (0 or 1) overrides what is found.
    """
    forced = os.environ.get("DLCOURSE_GPU")
    if forced is not None:
        if forced not in ("0", "1"):
            raise ValueError(f"DLCOURSE_GPU must be 0 or 1, not {forced!r}")
        return forced == "1"
    return torch_build()["cuda"] is not None and bool(gpu_names())


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_name() -> str:
    """The GPU's name, or the CPU's model and the number of cores that this process may use."""
    if gpu_available() and gpu_names():
        names = gpu_names()
        return names[0] if len(names) == 1 else f"{len(names)} × {names[0]}"
    return cpu_name()


def cpu_name() -> str:
    """The CPU's model and the number of cores that this process may use."""
    cores = available_cores()
    return f"{_cpu_model()}, {cores} core{'' if cores == 1 else 's'}"


def versions() -> dict[str, str]:
    """Versions worth naming beside a result: python, torch, cuda (if built for it)."""
    build = torch_build()
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    found.update({k: v for k, v in (("torch", build["version"]), ("cuda", build["cuda"])) if v})
    return found


def commit(folder: Path) -> str:
    """Short commit of the working tree at ``folder``: DLCOURSE_COMMIT, or what git says."""
    given = os.environ.get("DLCOURSE_COMMIT")
    if given:
        return given
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"
