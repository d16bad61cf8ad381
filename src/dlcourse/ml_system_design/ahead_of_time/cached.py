"""Compile once: packages kept in the cache folder, under a name of all that they depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlcourse.datasets.derived import kept

from .manifest import environment, read_manifest
from .package import compile_ahead_of_time
from .program import checked_example, export_program


def compile_once(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    dynamic_batch: bool = True,
    *,
    tolerance: float = 1e-5,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """The path of the compiled model in the cache folder; it is compiled where it is not there.

    Arguments and errors are those of ``compile_ahead_of_time``. A damaged file is made anew.
    """
    inputs = checked_example(model, example_inputs, dynamic_batch)
    key = package_key(export_program(model, inputs, dynamic_batch), inputs, options)

    def make(path: Path) -> None:
        compile_ahead_of_time(
            model, inputs, path, dynamic_batch, tolerance=tolerance, options=options
        )

    path = kept(f"aot-{key[:32]}.pt2", make)
    try:
        read_manifest(path)
    except ValueError:
        path.unlink()
        path = kept(path.name, make)
    return path


def package_key(
    program: torch.export.ExportedProgram,
    inputs: Sequence[Tensor],
    options: Mapping[str, Any] | None = None,
) -> str:
    """SHA-256 of what a compiled package depends on, 64 hexadecimal digits.

    That is the graph with its dtypes and shapes (what the model's source comes to, whatever file it
    stands in), the weights, torch's version, the device, the processor's instructions, the number
    of threads, and the options.
    """
    total = hashlib.sha256()
    place = dataclasses.asdict(environment(inputs[0].device))
    threads, options = torch.get_num_threads(), dict(options or {})
    total.update(json.dumps([place, threads, options], sort_keys=True, default=repr).encode())
    for node in program.graph.nodes:
        total.update(f"\n{node.format_node()} {node.meta.get('val')}".encode())
    total.update(f"\n{program.range_constraints}".encode())
    state = {**program.state_dict, **program.constants}
    for name, value in sorted(state.items()):
        total.update(f"\n{name} ".encode())
        if isinstance(value, Tensor):
            value = value.detach().cpu().contiguous()
            total.update(f"{value.dtype} {tuple(value.shape)} ".encode())
            total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            total.update(repr(value).encode())
    return total.hexdigest()
