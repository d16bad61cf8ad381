"""Compile a model to a file, and load the file: ``torch.export`` and AOTInductor.

Two of torch's names have a leading underscore in their path, ``torch._inductor``:
``aoti_compile_and_package`` and ``aoti_load_package``. They are the entry that PyTorch documents
for AOTInductor (docs.pytorch.org, *AOTInductor: Ahead-Of-Time Compilation for Torch.Export-ed
Models*); there is none without it. They may change between versions, which is one more reason why
a file is refused by another torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlcourse.files import try_writing

from .beside import written_beside
from .manifest import (
    Manifest, add_manifest, check_environment, check_inputs, digest, environment, read_manifest,
    specs,
)  # fmt: skip
from .program import checked_example, export_program, largest_difference

BATCHES = (1, 2, 3, 8)  # rows on which a dynamic model must equal eager before it is written


class CompiledModel:
    """A model that was compiled ahead of time, as ``load_compiled`` gives it.

    Call it with the tensors that the model takes; it answers as the model does, without gradients.
    Inputs are checked first (``WrongInputs``), and made contiguous.

    Attributes:
        manifest: for which machine it is, and what it takes.
    """

    def __init__(self, runner: Any, manifest: Manifest):
        self.manifest = manifest
        self._runner = runner
        self._device = manifest.environment.device.partition(":")[0]

    def __call__(self, *inputs: Tensor) -> Any:
        check_inputs(self.manifest.inputs, self._device, inputs)
        # Compiled code reads memory by the strides of the example, which was contiguous.
        return self._runner(*(x.contiguous() for x in inputs))

    def __repr__(self) -> str:
        takes = ", ".join(map(str, self.manifest.inputs))
        return f"CompiledModel({takes} on {self.manifest.environment.device})"


def compile_ahead_of_time(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    path: str | os.PathLike[str],
    dynamic_batch: bool = True,
    *,
    tolerance: float = 1e-5,
    options: Mapping[str, Any] | None = None,
) -> Manifest:
    """Compile a model to one file, which ``load_compiled`` runs without the model's Python code.

    The weights go into the file. It is written beside ``path``, loaded there, and compared with
    ``model``; only then is it renamed into place. Whatever fails, a file that was there stays.
    Takes tens of seconds, and needs a C++ compiler (g++), which loading does not.

    Args:
        model: in ``eval`` mode, weights and inputs on one device (a CPU or a GPU).
        example_inputs: a tuple of tensors; their dtypes and shapes become the file's.
        path: such as ``model.pt2``.
        dynamic_batch: the first axis of all inputs may have any size from 1 on, equal for all.
        tolerance: |a − b| / max(1, |b|) of answers a of the file and b of ``model`` may be this
            large: on the example, and with ``dynamic_batch`` on 1, 2, 3 and 8 rows of it too.
        options: of TorchInductor by name, such as ``{"max_autotune": True}``.

    Returns the manifest, which is in the file.

    Raises:
        TypeError, ValueError: a model or inputs that can't be compiled, such as a part in training
            mode; the message says what to do. ``torch.export`` and the compiler raise their own.
        NotEqualToEager: the answers differ; nothing was written.
        OSError: ``path`` can't be written, which is found out before the compiler starts.
    """
    if isinstance(tolerance, bool) or not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance must be finite and ≥ 0: got {tolerance!r}")
    inputs = checked_example(model, example_inputs, dynamic_batch)
    try_writing(path)
    program = export_program(model, inputs, dynamic_batch)
    with written_beside(path, "model.pt2") as beside:
        _build(program, beside, dict(options or {}))
        sizes = (None, *BATCHES) if dynamic_batch else (None,)
        manifest = Manifest(
            environment(inputs[0].device),
            specs(inputs, dynamic_batch),
            largest_difference(model, _run(beside), inputs, tolerance, sizes),
            torch.get_num_threads(),
            digest(beside),
        )
        add_manifest(beside, manifest)
        load_compiled(beside)(*inputs)  # as it will be loaded
    return manifest


def load_compiled(path: str | os.PathLike[str]) -> CompiledModel:
    """Load a file of ``compile_ahead_of_time``; the model's Python code is not needed.

    The file holds machine code: load none that you would not run. Its SHA-256 finds damage; an
    enemy would write a new one.

    Raises:
        DamagedPackage: the content of an entry was changed or is missing; or it is no such file.
        WrongEnvironment: it was compiled for another torch, device or processor.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    manifest = read_manifest(path)
    device = manifest.environment.device.partition(":")[0]
    if device == "cuda" and not torch.cuda.is_available():
        device = "cpu"  # named by the error that follows
    check_environment(manifest.environment, environment(device))
    return CompiledModel(_run(path), manifest)


def _build(program: torch.export.ExportedProgram, path: Path, options: dict[str, Any]) -> None:
    """Run the compiler: graph to C++ or Triton kernels, to a shared library, to a zip archive."""
    import torch._inductor

    torch._inductor.aoti_compile_and_package(
        program, package_path=str(path), inductor_configs=options
    )


def _run(path: Path) -> Any:
    """The archive's code, unpacked and loaded; unchecked."""
    import torch._inductor

    return torch._inductor.aoti_load_package(str(path))
