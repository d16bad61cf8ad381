"""What ``dlcourse doctor`` examines: each finding says what is, and the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dlcourse import devices
from dlcourse.build import project

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_LEAST_MEMORY_GB = 4
_LEAST_DISK_GB = 2


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    ``state`` is ``ok``, ``note`` (something optional is absent) or ``problem`` (the course does not
    run without it); ``mend`` is the command to give then.
    """

    subject: str
    state: str
    detail: str
    mend: str | None = None


def missing_modules(*names: str) -> list[str]:
    """Those of ``names`` that cannot be imported here; nothing is imported."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):
        mend = "install Python 3.11, then: make clean book PYTHON=python3.11"
        return Finding("Python", "problem", f"{version}; the course needs 3.11 or newer", mend)
    return Finding("Python", "ok", f"{version} at {sys.prefix}")


def _in_fresh_python(code: str, timeout: int = 120) -> tuple[bool, str]:
    """Whether ``code`` runs in a fresh interpreter, and the last line that it printed."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {timeout} s"
    text = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip()
    return done.returncode == 0, (text.splitlines() or [f"exit status {done.returncode}"])[-1]


def _torch() -> Finding:
    build = devices.torch_build()
    mend = f"{sys.executable} -m pip install --force-reinstall torch torchvision"
    if build["version"] is None:
        return Finding(
            "PyTorch", "problem", "not installed", mend.replace(" --force-reinstall", "")
        )
    kind = "CPU build"
    if build["cuda"]:
        kind = f"CUDA {build['cuda']} build"
    elif build["hip"]:
        kind = f"ROCm {build['hip']} build"
    works, said = _in_fresh_python(
        "import torch; print((torch.ones(2, 2) @ torch.ones(2)).tolist())"
    )
    if not works:
        return Finding("PyTorch", "problem", f"{build['version']}, {kind}, fails: {said}", mend)
    return Finding("PyTorch", "ok", f"{build['version']}, {kind}")


def _torchvision() -> Finding:
    works, said = _in_fresh_python("import dlcourse, torchvision; print(torchvision.__version__)")
    if works:
        return Finding("torchvision", "ok", said)
    mend = f"{sys.executable} -m pip install --upgrade torch torchvision"
    return Finding("torchvision", "problem", said, mend)


def _gpu() -> Finding:
    names, build = devices.gpu_names(), devices.torch_build()
    if not names:
        return Finding("GPU", "note", "none; GPU cells show what was recorded on one")
    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
    ).stdout.split()
    detail = f"{', '.join(names)}, driver {driver[0] if driver else 'unknown'}"
    mend = f"{sys.executable} -m pip install --force-reinstall torch torchvision"
    if build["cuda"] is None:
        return Finding("GPU", "note", f"{detail}, not used: PyTorch is not a CUDA build", mend)
    works, said = _in_fresh_python("import torch; torch.ones(2, device='cuda').sum().item()")
    if works:
        return Finding("GPU", "ok", detail)
    return Finding("GPU", "problem", f"{detail}, but PyTorch cannot use it: {said}", mend)


def _requirements(extra: str) -> list[str]:
    """Names of the distributions that an extra asks for."""
    wanted = []
    for requirement in metadata.requires("dlcourse") or []:
        head, _, marker = requirement.partition(";")
        if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", marker):
            wanted.append(re.match(r"[\w.-]+", head.strip()).group(0))
    return wanted


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
        return True
    except metadata.PackageNotFoundError:
        return False


def _extras() -> Iterator[Finding]:
    """One finding for each extra of a chapter, and for those that execute and build the book."""
    try:
        extras = metadata.metadata("dlcourse").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        mend = f"{sys.executable} -m pip install -e '.[test,lab]'"
        yield Finding("dlcourse", "problem", "the package itself is not installed", mend)
        return
    for extra in sorted(extras):
        lacking = [name for name in _requirements(extra) if not _installed(name)]
        mend = f"{sys.executable} -m pip install 'dlcourse[{extra}]'"
        if not lacking:
            yield Finding(f"extra {extra}", "ok", "installed")
        elif extra == "notebooks":
            yield Finding(f"extra {extra}", "problem", f"lacks {', '.join(lacking)}", mend)
        else:
            yield Finding(f"extra {extra}", "note", f"lacks {', '.join(lacking)}", mend)


def _kernel() -> Finding:
    mend = f"{sys.executable} -m ipykernel install --sys-prefix --name python3"
    if missing_modules("jupyter_client", "ipykernel"):
        mend = f"{sys.executable} -m pip install ipykernel && {mend}"
        return Finding("Kernel python3", "problem", "ipykernel is not installed", mend)
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    from jupyter_client.manager import start_new_kernel

    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
        manager, client = start_new_kernel(
            startup_timeout=60, kernel_name="python3", stderr=subprocess.DEVNULL
        )
    except NoSuchKernel:
        return Finding("Kernel python3", "problem", "not registered", mend)
    except Exception as error:  # noqa: BLE001 - whatever keeps it from starting is the finding
        return Finding("Kernel python3", "problem", f"does not start: {error}", mend)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return Finding("Kernel python3", "ok", f"starts ({command})")


def _papermill() -> Finding:
    if missing_modules("papermill"):
        mend = f"{sys.executable} -m pip install 'dlcourse[notebooks]'"
        return Finding("papermill", "problem", "not installed", mend)
    works, said = _in_fresh_python(
        "from papermill.engines import papermill_engines as e; print(e.get_engine('dlcourse'))"
    )
    if works:
        return Finding("papermill", "ok", "has the engine dlcourse")
    mend = f"{sys.executable} -m pip install -e '.[test,lab]'"
    return Finding("papermill", "problem", f"does not find the engine dlcourse: {said}", mend)


def _memory() -> Finding:
    if missing_modules("psutil"):
        mend = f"{sys.executable} -m pip install psutil"
        return Finding("Memory", "problem", "psutil is not installed", mend)
    import psutil

    free = psutil.virtual_memory().available / 1e9
    if free < _LEAST_MEMORY_GB:
        mend = "close other programs, or run one notebook at a time: dlcourse run -j 1"
        return Finding("Memory", "note", f"{free:.1f} GB free", mend)
    return Finding("Memory", "ok", f"{free:.1f} GB free, {devices.available_cores()} cores")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < _LEAST_DISK_GB:
        return Finding("Disk", "problem", f"{free:.1f} GB free here", "make clean; pip cache purge")
    return Finding("Disk", "ok", f"{free:.1f} GB free here")


def _data() -> Finding:
    from dlcourse.datasets import packages

    archives = packages.archives().values()
    lacking = [archive.name for archive in archives if not packages.is_cached(archive)]
    if lacking:
        detail = f"not fetched: {', '.join(lacking)}; fetched at first use, with a network"
        return Finding("Data", "note", detail, "dlcourse fetch")
    return Finding("Data", "ok", f"all in {packages.cache_folder()}")


def _chromium() -> Finding:
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found:
        return Finding("Chromium", "ok", found)
    mend = "sudo apt-get install chromium"
    return Finding("Chromium", "note", "none; the tests of the site's pages are skipped", mend)


def _compiler() -> Finding:
    found = next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))), None)
    if found:
        return Finding("C++ compiler", "ok", f"{found} (torch.compile)")
    mend = "sudo apt-get install g++"
    return Finding("C++ compiler", "note", "none; torch.compile does not work on a CPU", mend)


def _checkout() -> Finding:
    try:
        return Finding("Checkout", "ok", str(project.find_root()))
    except project.ProjectError as error:
        return Finding("Checkout", "note", str(error))


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _python, _torch, _torchvision, _gpu, _papermill, _kernel, _memory, _disk, _data, _compiler,
    _chromium, _checkout,
)  # fmt: skip


def examine() -> Iterator[Finding]:
    """All findings, one after the other as they are made."""
    for check in _CHECKS:
        yield check()
    yield from _extras()
