"""The chapters that the package has: each is a subpackage whose ``__init__`` sets ``CHAPTER``.

They are found by reading, so that looking for one imports none of them. ``attach`` gives such a
subpackage its public names, each loaded when it is first used.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent
_NUMBER = re.compile(r"^CHAPTER = (\d+)$", re.MULTILINE)


@functools.cache
def chapters() -> dict[str, str]:
    """Number and name of each chapter's subpackage: ``{"119": "large_scale_training", …}``."""
    found = {}
    for init in _PACKAGE.glob("*/__init__.py"):
        if match := _NUMBER.search(init.read_text(encoding="utf8")):
            found[match[1]] = init.parent.name
    return dict(sorted(found.items()))


def chapter_folder(number: str) -> Path:
    """Where a chapter's subpackage lies. Raises LookupError, which names those that there are."""
    if number not in chapters():
        raise LookupError(f"no chapter {number!r}; there are: {', '.join(chapters())}")
    return _PACKAGE / chapters()[number]


def extra_of(package: str) -> str:
    """The extra that installs what a chapter needs: its subpackage's name, with hyphens."""
    return package.replace("_", "-")


def attach(name: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a chapter's subpackage, from its ``.pyi``.

    The stub says in which module each public name is; it is imported when the name is first used,
    and so a chapter costs what is used of it. Where a library is missing, the error names the
    extra that installs it.
    """
    import lazy_loader

    load, directory, names = lazy_loader.attach_stub(name, file)

    def __getattr__(attribute: str) -> Any:
        try:
            return load(attribute)
        except ModuleNotFoundError as error:
            raise missing_library(error, name) from error

    return __getattr__, directory, names


def missing_library(error: ModuleNotFoundError, package: str) -> ModuleNotFoundError:
    """``error``, or where a library of a chapter is missing one that says how to install it.

    Args:
        package: ``dlcourse.<chapter>``, or a module of it.
    """
    if (error.name or "dlcourse").partition(".")[0] == "dlcourse":
        return error
    extra = extra_of(package.split(".")[1])
    return ModuleNotFoundError(
        f"this part of the course needs {error.name}, which is not installed: "
        f"pip install 'dlcourse[{extra}]'",
        name=error.name,
    )
