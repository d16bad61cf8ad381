"""What a compiled file says of itself: for which machine it is, and what it takes.

Machine code has no names left by which a mistake would show: a package of another torch may crash,
an instruction that the processor lacks ends the process, and a wrong shape is read as if it were
right. All of it is asked before any code of the file runs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .errors import DamagedPackage, WrongEnvironment, WrongInputs

FORMAT = 1
ENTRY = "extra/dlcourse_manifest.json"  # `extra/` is where torch's archive has room for others
_INSTRUCTIONS = re.compile(r"(s?sse|avx|amx|fma|bmi|f16c|vaes|vpclmul|gfni|adx|popcnt|movbe|abm).*")


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One input: a dtype, such as "float32", and a shape, in which None is any size from 1 on."""

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('n' if s is None else str(s) for s in self.shape)}]"


@dataclasses.dataclass(frozen=True)
class Environment:
    """Where compiled code runs: torch's version, the device, and the processor's instructions."""

    torch: str
    device: str  # "cpu", or "cuda: NVIDIA H100 …, compute capability 9.0"
    machine: str  # such as x86_64
    instructions: tuple[str, ...]  # such as avx2, fma; empty where the system does not say


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What stands in a compiled file beside the code."""

    environment: Environment
    inputs: tuple[InputSpec, ...]
    difference: float  # the largest relative difference to eager that was seen
    threads: int  # of torch, when it was compiled: the code may be made for this number
    sha256: str  # of all other entries of the file
    format: int = FORMAT

    def to_json(self) -> str:
        """As text; ``from_json`` reads it."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Raises ValueError, TypeError or KeyError where it is no manifest of this format."""
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']}, where this program knows {FORMAT}")
        place = values["environment"]
        values["environment"] = Environment(
            **{**place, "instructions": tuple(place["instructions"])}
        )
        values["inputs"] = tuple(InputSpec(i["dtype"], tuple(i["shape"])) for i in values["inputs"])
        return cls(**values)


def environment(device: torch.device | str = "cpu") -> Environment:
    """This machine, for code that runs on ``device``."""
    device = torch.device(device)
    name = device.type
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        card = torch.cuda.get_device_name(device)
        name = f"cuda: {card}, compute capability {major}.{minor}"
    return Environment(torch.__version__, name, platform.machine(), _instructions())


def _instructions() -> tuple[str, ...]:
    """The processor's vector and bit instructions, as Linux lists them."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf8", errors="replace")
    except OSError:
        return ()
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    names = found.group(1).split() if found else []
    arm = platform.machine() in ("aarch64", "arm64")
    return tuple(sorted({name for name in names if arm or _INSTRUCTIONS.fullmatch(name)}))


def check_environment(then: Environment, now: Environment) -> None:
    """Raises WrongEnvironment where code compiled in ``then`` is not sure to run in ``now``.

    The torch, the device and the kind of machine must be the same; the processor must have each
    instruction that the one of then had, since g++ was told ``-march=native``. It may have more.
    """
    for what in ("torch", "device", "machine"):
        was, here = getattr(then, what), getattr(now, what)
        if was != here:
            raise WrongEnvironment(
                f"compiled for {what} {was!r}, and here is {here!r}: compile it anew here"
            )
    missing = sorted(set(then.instructions) - set(now.instructions))
    if missing:
        raise WrongEnvironment(
            f"compiled on a processor with {', '.join(missing)}, which this one lacks: compile it "
            "on the oldest kind of machine that shall run it"
        )


def specs(inputs: Sequence[Tensor], dynamic_batch: bool) -> tuple[InputSpec, ...]:
    """What inputs like these are."""
    return tuple(
        InputSpec(_name(x.dtype), (None, *x.shape[1:]) if dynamic_batch else tuple(x.shape))
        for x in inputs
    )


def check_inputs(wanted: Sequence[InputSpec], device: str, inputs: Sequence[object]) -> None:
    """Raises WrongInputs where ``inputs`` are not what a model was compiled for.

    Axes that are None in ``wanted`` are the batch: one size for all, at least 1.
    """
    if len(inputs) != len(wanted):
        raise WrongInputs(f"the model takes {len(wanted)} inputs: got {len(inputs)}")
    rows = None
    for i, (want, x) in enumerate(zip(wanted, inputs, strict=True)):
        if not isinstance(x, Tensor) or x.layout != torch.strided:
            raise WrongInputs(f"input {i} must be a dense tensor: got {type(x).__name__}")
        got = InputSpec(_name(x.dtype), tuple(x.shape))
        fits = len(got.shape) == len(want.shape) and all(
            w is None or w == g for w, g in zip(want.shape, got.shape, strict=True)
        )
        if got.dtype != want.dtype or not fits:
            raise WrongInputs(f"input {i} must be {want}: got {got}")
        if x.device.type != device:
            raise WrongInputs(f"input {i} must be on {device}: got {x.device}; move it with .to()")
        if x.requires_grad and torch.is_grad_enabled():
            raise WrongInputs(f"input {i} requires grad, and compiled code has no backward pass")
        if None in want.shape:
            rows = len(x) if rows is None else rows
            if len(x) != rows or not rows:
                raise WrongInputs(f"input {i} must have {rows or 'at least 1'} rows: got {len(x)}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# In the file


def digest(path: Path) -> str:
    """SHA-256 over the names and the content of all entries but the manifest."""
    total = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
            if not entry.filename.endswith("/" + ENTRY):
                total.update(f"{len(entry.filename.encode())} {entry.filename}".encode())
                total.update(f" {entry.file_size} ".encode())
                with archive.open(entry) as content:
                    while block := content.read(1 << 20):
                        total.update(block)
    return total.hexdigest()


def add_manifest(path: Path, manifest: Manifest) -> None:
    """Put the manifest into torch's archive, under the folder that all its entries are in."""
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/{ENTRY}", manifest.to_json())


def read_manifest(path: Path) -> Manifest:
    """The manifest of a whole file; no code of the file is run.

    Raises DamagedPackage where the file has no manifest, or its SHA-256 is another.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("/" + ENTRY)]
            manifest = Manifest.from_json(archive.read(name))
        found = digest(path)
    except (zipfile.BadZipFile, ValueError, TypeError, KeyError, EOFError, OSError,
            NotImplementedError, RuntimeError, AttributeError) as error:  # fmt: skip
        if isinstance(error, FileNotFoundError):
            raise
        raise DamagedPackage(
            f"{path} is no file of compile_ahead_of_time, or is damaged: {error}"
        ) from error
    if found != manifest.sha256:
        raise DamagedPackage(f"{path} is damaged: its SHA-256 is another; copy or compile it anew")
    return manifest
