"""A checksum for each file of a version, compared before anything is loaded.

Chapter: ``119_large_scale_training/1b_checkpoints``.

A flipped bit in a weight is a weight too: no loader can see it. So a save ends with a file that
lists the size and the checksum of each of its files, and of itself.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dlcourse.large_scale_training.checkpoints._shared import CheckpointError

__all__ = ["MANIFEST", "checksum", "damaged_files", "read_manifest", "write_manifest"]

MANIFEST = "checksums"
_ROWS, _COLUMNS = 128, 1024  # of 8-byte words: a block of 1 MiB, which stays in a core's cache


def checksum(file: str | os.PathLike[str]) -> tuple[int, int]:
    """The size of a file and a checksum of 32 bits, at nearly the speed of a copy.

    CRC-32 of the file itself would take a quarter of the time of loading. So each block of 1 MiB is
    read as a table of 8-byte words, the words are added along its rows and along its columns
    (modulo 2⁶⁴), and CRC-32 goes over these 1,152 sums. A change within one word changes the sum
    of a row and of a column; so does a swap of two unequal words, unless they lie in one row (then
    the columns' sums differ) or in one column (the rows'). For accidents, not against forgery.
    """
    size = crc = 0
    block = bytearray(8 * _ROWS * _COLUMNS)
    table = np.frombuffer(block, dtype=np.uint64).reshape(_ROWS, _COLUMNS)
    with open(file, "rb", buffering=0) as source:
        while length := _fill(source, block):
            size += length
            block[length:] = bytes(len(block) - length)  # the last block ends in zeros
            crc = zlib.crc32(table.sum(0).tobytes(), crc)
            crc = zlib.crc32(table.sum(1).tobytes(), crc)
    return size, crc


def _fill(source, block: bytearray) -> int:
    """Read a whole block, or what is left of the file; returns the number of bytes."""
    view, length = memoryview(block), 0
    while length < len(block) and (read := source.readinto(view[length:])):
        length += read
    view.release()
    return length


def write_manifest(version: Path, files: dict[str, tuple[int, int]]) -> None:
    """Write size and checksum of each file, and a checksum of this list; it is on the disk then."""
    listed = json.dumps(files, sort_keys=True).encode()
    with open(version / MANIFEST, "wb") as file:
        file.write(listed + b"\n%08x" % zlib.crc32(listed))
        file.flush()
        os.fsync(file.fileno())


def read_manifest(version: Path) -> dict[str, tuple[int, int]]:
    """Size and checksum by file. Raises CheckpointError where the list itself is damaged."""
    try:
        listed, _, own = (version / MANIFEST).read_bytes().rpartition(b"\n")
    except OSError as error:
        raise CheckpointError(
            f"{version} is damaged: its list of checksums cannot be read ({error})"
        ) from error
    if own != b"%08x" % zlib.crc32(listed) or not listed:
        raise CheckpointError(f"{version} is damaged: its list of checksums was changed")
    return {name: (size, crc) for name, (size, crc) in json.loads(listed).items()}


def damaged_files(
    version: Path, manifest: dict[str, tuple[int, int]], names: Iterable[str]
) -> list[str]:
    """What is wrong with those of the files that are missing or changed, in words."""
    problems = []
    for name in names:
        size, crc = manifest[name]
        file = version / name
        try:
            present = file.stat().st_size
            if present < size:
                problems.append(f"{name} is truncated: {present:,} of {size:,} bytes are there")
            elif present > size:
                problems.append(f"{name} has grown from {size:,} to {present:,} bytes")
            elif checksum(file) != (size, crc):
                problems.append(f"{name} is not what was saved: its checksum differs")
        except OSError as error:
            problems.append(f"{name} cannot be read ({error})")
    return problems
