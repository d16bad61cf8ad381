"""A file that is written beside its place and renamed into it, or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_beside(path: str | os.PathLike[str], name: str | None = None) -> Iterator[Path]:
    """A path in a folder of its own beside ``path``; at the end of the block it takes its place.

    For what a library writes, where ``files.write_atomic`` has no bytes to write. ``name`` is that
    of the file until then. Where the block raises, ``path`` is as it was.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name[:100]}-") as folder:
        beside = Path(folder, name or path.name)
        yield beside
        os.replace(beside, path)
