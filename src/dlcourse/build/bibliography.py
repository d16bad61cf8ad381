"""The bibliography, gathered from the chapters: each keeps its works in its own folder.

``chapters/NNN_name/references.bib`` holds what the chapter cites. A work that two chapters cite
stands in both files, with the same entry in each, so that a chapter can be moved or removed alone.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlcourse.build.myst import Work

#: An entry begins with @ at the start of a line; whatever stands before the first is a comment.
_ENTRY = re.compile(r"^@\w+\s*\{\s*(?P<key>[^,\s]+)\s*,", re.MULTILINE)


class BibliographyError(ValueError):
    """The chapters' bibliographies contradict each other."""


def files(root: Path) -> list[Path]:
    """The chapters' bibliographies, in the order of the chapters."""
    return sorted(root.glob("chapters/*/references.bib"))


def entries(text: str) -> list[tuple[str, str]]:
    """Key and text of each entry of a BibTeX file, in its order."""
    starts = [*_ENTRY.finditer(text)]
    ends = [*(match.start() for match in starts[1:]), len(text)]
    return [(m["key"], text[m.start() : end].strip()) for m, end in zip(starts, ends)]


def gather(root: Path) -> dict[str, str]:
    """The entry of each work that a chapter cites, by key, sorted; the same entries are one.

    Raises BibliographyError where two entries of one key differ; it names both files.
    """
    found: dict[str, tuple[str, str, Path]] = {}  # by lower-case key, as BibTeX compares them
    for file in files(root):
        for key, text in entries(file.read_text(encoding="utf8")):
            known_key, known, first = found.setdefault(key.lower(), (key, text, file))
            if (known_key, known.split()) != (key, text.split()):
                places = " and ".join(str(f.relative_to(root)) for f in (first, file))
                raise BibliographyError(f"{key} has different entries in {places}; make them equal")
    return {key: text for key, text, _ in sorted(found.values(), key=lambda entry: entry[0])}


def works(root: Path) -> dict[str, Work]:
    """Authors, year, title and address of each work, by lower-case key.

    Raises BibliographyError as ``gather``.
    """
    return _works(root, tuple((file, file.stat().st_mtime_ns) for file in files(root)))


@functools.lru_cache(maxsize=4)
def _works(root: Path, state: tuple[tuple[Path, int], ...]) -> dict[str, Work]:
    """As ``works``, read once for each state of the files: a notebook cites dozens of times."""
    from dlcourse.build import myst

    gather(root)
    return {key: work for file, _ in state for key, work in myst.read_bibliography(file).items()}
