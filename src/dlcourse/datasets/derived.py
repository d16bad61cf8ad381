"""Arrays that are computed from archives, once: kept in the cache folder, beside the archives."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dlcourse.datasets.packages import FetchError, cache_folder

if TYPE_CHECKING:
    import numpy as np


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The path of a file in the cache folder, made by ``make(path)`` when it is not there.

    It gets there only whole: ``make`` writes beside it, and the result is renamed. Processes that
    ask at once wait for the first one. ``name`` must change when what ``make`` does changes.

    Raises:
        FetchError: the cache folder can't be written.
    """
    from filelock import FileLock

    path = cache_folder() / "derived" / name
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            FileLock(path.with_name(f".{name}.lock")),
            tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{name}-") as folder,
        ):
            if not path.exists():  # another process may have made it meanwhile
                make(Path(folder, name))
                os.replace(Path(folder, name), path)
    except PermissionError as error:
        raise FetchError(
            f"{name}: the cache folder {path.parent} can't be written ({error}). Set the "
            "environment variable DLCOURSE_CACHE to a folder that you can write to"
        ) from error
    return path


def kept_array(name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that ``compute()`` returns; it is computed once and then read (``name.npy``)."""
    import numpy as np

    def make(path: Path) -> None:
        with open(path, "wb") as file:
            np.save(file, compute())

    return np.load(kept(f"{name}.npy", make))
