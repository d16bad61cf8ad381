"""The environment of a kernel that makes a page: ours, whatever the person's own settings are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

# Settings of a person that would change what a page shows, beside all that begin with LC_.
_REMOVED = {
    *("PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONINSPECT", "PYTHONOPTIMIZE"),
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"),  # what libraries ask before they print
}


@contextmanager
def kernel_environment(threads: int = 1, **more: str) -> Iterator[dict[str, str]]:
    """Environment variables for a kernel, good for as long as the block lasts.

    Figures go inline whatever ``MPLBACKEND`` says, no ``matplotlibrc`` and no IPython profile of
    the person's is read, texts are UTF-8 and English, and widgets are drawn as static frames.

    Args:
        threads: for matrix products in the kernel. With one, a sum is always taken in the same
            order, and a page does not depend on the number of cores.
        more: further variables.
    """
    with TemporaryDirectory(prefix="dlcourse-kernel-") as folder:
        # The profile is made here: two kernels that make it at once would be in each other's way.
        (Path(folder) / "profile_default" / "startup").mkdir(parents=True)
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in _REMOVED and not name.startswith("LC_")
        }
        yield {
            **kept,
            "DLCOURSE_STATIC": "1",
            "IPYTHONDIR": folder,
            "LANG": "C.UTF-8",
            "LANGUAGE": "en",
            "MATPLOTLIBRC": os.devnull,
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "PYTHONHASHSEED": "0",
            "PYTHONUTF8": "1",
            "TZ": "UTC",
            **more,
        }
