"""A model's weights in a file that holds numbers and no code, and that tells when it is damaged.

The format is safetensors: eight bytes with the length of a JSON header, the header with names,
dtypes, shapes and text metadata, then the tensors' bytes. A pickle, and so joblib, runs what the
file says when it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from dlcourse.files import write_atomic

_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')  # quotes in a value are escaped in JSON
_ZEROS = "0" * 64


class ModelFileError(ValueError):
    """The file is damaged, or is not of this model; nothing in the module was changed."""


def save_model(
    module: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> str:
    """Write a module's ``state_dict`` as safetensors, beside ``path`` and then renamed.

    The SHA-256 of the file stands in its metadata, computed with zeros in its own place. It finds
    damage, not an enemy, who could compute it as well; it also names the version of a model.

    Args:
        metadata: text by name, such as the version or the data; ``sha256`` is taken.

    Returns the SHA-256, 64 hexadecimal digits.

    Raises TypeError where the state holds anything but dense tensors of a dtype that safetensors
    has, or the metadata anything but text; ValueError for the name ``sha256``, or where the module
    has no weights yet (lazy, or on the meta device).
    """
    from safetensors.torch import save

    metadata = dict(metadata or {})
    for name, text in metadata.items():
        if not (isinstance(name, str) and isinstance(text, str)):
            raise TypeError(f"metadata must be text by name: got {name!r}: {text!r}")
    if "sha256" in metadata:
        raise ValueError("the metadata name sha256 is taken: save_model writes it")
    # A copy each: tensors with common memory, such as tied weights, are written one by one.
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in _state(module).items()}
    try:
        blank = save(tensors, {**metadata, "sha256": _ZEROS})
    except KeyError as error:
        raise TypeError(f"safetensors has no dtype {error}: convert the tensor first") from error
    digest = hashlib.sha256(blank).hexdigest()
    write_atomic(path, _with_digest(blank, digest))
    return digest


def load_model(module: nn.Module, path: str | os.PathLike[str]) -> dict[str, str]:
    """Fill a module from a file of ``save_model``; returns the metadata, with the ``sha256``.

    Everything is checked before the first weight changes.

    Raises:
        ModelFileError: any byte was changed, or is missing or too many; or the file's tensors are
            not those of the module by name, shape and dtype.
        FileNotFoundError, TypeError, ValueError: no such file; a module as in ``save_model``.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    own = _state(module)
    path = Path(path)
    content = path.read_bytes()
    metadata = _checked_metadata(content, path)
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelFileError(f"{path} is no safetensors file: {error}") from error
    wrong = [f"{name} is missing" for name in own.keys() - tensors.keys()]
    wrong += [f"{name} is unexpected" for name in tensors.keys() - own.keys()]
    for name in own.keys() & tensors.keys():
        mine, other = own[name], tensors[name]
        if (mine.shape, mine.dtype) != (other.shape, other.dtype):
            wrong.append(
                f"{name} is {other.dtype} {tuple(other.shape)} in the file and "
                f"{mine.dtype} {tuple(mine.shape)} in the module"
            )
    if wrong:
        shown = "; ".join(sorted(wrong)[:5]) + ("; …" if len(wrong) > 5 else "")
        raise ModelFileError(f"{path} is not of this model: {shown}")
    module.load_state_dict(tensors, strict=True)
    return metadata


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module: got {type(module).__name__}")
    state = module.state_dict()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} is no tensor but {type(value).__name__}: safetensors has none")
        if value.layout != torch.strided:
            raise TypeError(f"{name} is {value.layout}: safetensors holds dense tensors only")
        if is_lazy(value) or value.is_meta:
            raise ValueError(f"{name} has no values yet: run one batch, or give it a device")
    return state


def _with_digest(content: bytes, digest: str) -> bytes:
    """The file with another digest of the same length in the place of its own."""
    (place,) = _DIGEST.finditer(content, 8, _header_end(content))
    return content[: place.start(1)] + digest.encode() + content[place.end(1) :]


def _header_end(content: bytes) -> int:
    return min(8 + int.from_bytes(content[:8], "little"), len(content))


def _checked_metadata(content: bytes, path: Path) -> dict[str, str]:
    """The metadata of a whole and unchanged file."""
    found = _DIGEST.findall(content, 8, _header_end(content))
    if len(found) != 1:
        raise ModelFileError(
            f"{path} has no sha256 in its header: it is damaged, or save_model did not write it"
        )
    if hashlib.sha256(_with_digest(content, _ZEROS)).hexdigest() != found[0].decode():
        raise ModelFileError(f"{path} is damaged: its SHA-256 is another; copy it anew")
    return json.loads(content[8 : _header_end(content)])["__metadata__"]
