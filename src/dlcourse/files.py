"""Files that are either whole or not there, and never written over what a person made."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

TEMPORARY_SUFFIX = ".dlcourse-tmp"

#: In each folder that ``replace_own`` writes into: one JSON line for each text that it wrote.
LEDGER = ".dlcourse-written"


def write_atomic(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Write text, in UTF-8, or bytes beside ``path`` and rename it into place; makes parents.

    A link stays a link, and what it points to is replaced; a file that was there keeps its mode.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}."[:100], suffix=TEMPORARY_SUFFIX
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf8") if isinstance(text, str) else text)
        os.chmod(temporary, _mode(path))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _mode(path: Path) -> int:
    """The mode of ``path``, or what open() would give a new file: mkstemp makes private ones."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


def write_if_changed(path: str | os.PathLike[str], text: str) -> bool:
    """Write ``text`` atomically unless the file has it already. True if it was written."""
    path = Path(path)
    if path.exists() and path.read_bytes() == text.encode("utf8"):
        return False
    write_atomic(path, text)
    return True


def replace_own(path: str | os.PathLike[str], text: str) -> Path | None:
    """Write ``text`` to ``path``, and keep what a person made of the file that was there.

    Replaced without a copy is only what this function wrote and nobody has changed since. Anything
    else (an edited notebook, an annotated table, a file that was never ours) is first copied to a
    dated name beside it. Returns that copy, or None when there was nothing to keep; ``kept_note``
    says it in a sentence.

    What was written is remembered in the folder's ``LEDGER``. Without it, everything counts as
    changed: too many copies are kept, never too few.
    """
    path, new = Path(path), text.encode("utf8")
    old = path.read_bytes() if path.exists() else None
    copy = None
    if old != new:
        if old is not None and not _written_as(path, old):
            copy = keep_copy(path)
        write_atomic(path, text)
    if not _written_as(path, new):
        with open(path.with_name(LEDGER), "a", encoding="utf8") as ledger:
            # The line break comes first: the line before it may have been cut off.
            ledger.write("\n" + json.dumps([path.name, hashlib.sha256(new).hexdigest()]))
    return copy


def is_own(path: str | os.PathLike[str]) -> bool:
    """Whether ``replace_own`` wrote the file and nobody has changed it since."""
    path = Path(path)
    return path.is_file() and _written_as(path, path.read_bytes())


def _written_as(path: Path, content: bytes) -> bool:
    """Whether ``content`` is what the ledger has last for this file."""
    try:
        lines = path.with_name(LEDGER).read_text("utf8", errors="replace").splitlines()
    except OSError:
        return False
    for line in reversed(lines):
        try:
            name, digest = json.loads(line)
        except (ValueError, TypeError):
            continue  # no line of ours, or one that was cut off
        if name == path.name:
            return digest == hashlib.sha256(content).hexdigest()
    return False


def keep_copy(path: str | os.PathLike[str], mark: str | None = None) -> Path:
    """Copy a file beside itself: ``grades.csv`` to ``grades.20261126-093005.csv``.

    ``mark`` stands in the name in place of the date. No file is ever written over.
    """
    path = Path(path)
    mark = mark or dt.datetime.now().strftime("%Y%m%d-%H%M%S")
    for count in range(1, 10_000):
        again = f"-{count}" if count > 1 else ""
        copy = path.with_name(f"{path.stem}.{mark}{again}{path.suffix}")
        try:
            open(copy, "xb").close()  # taken: no other process gets this name
        except FileExistsError:
            continue
        try:
            shutil.copy2(path, copy)
        except BaseException:
            copy.unlink()
            raise
        return copy
    raise FileExistsError(f"too many copies of {path}: remove some")


def kept_note(path: str | os.PathLike[str], copy: Path) -> str:
    """The sentence that tells of a copy that ``replace_own`` kept."""
    return f"{path} was not as this program wrote it; it is kept as {copy.name}"


def try_writing(path: str | os.PathLike[str]) -> None:
    """Find out before long work whether a file can be written there; leaves nothing behind.

    Raises:
        OSError: it can't; the message names the place.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=TEMPORARY_SUFFIX)
    except OSError as error:
        raise OSError(f"{path} can't be written: {error.strerror or error}") from error
    os.close(handle)
    os.unlink(temporary)
