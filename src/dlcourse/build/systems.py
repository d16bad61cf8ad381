"""The document's systems, from ``book/systems.yml``: which there are, and which are here yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

LEDGER = Path("book/systems.yml")


class SystemsError(ValueError):
    """The ledger of systems is not as it must be."""


@dataclass(frozen=True)
class System:
    """One system of the document, and the page that explains it (here, or to come)."""

    chapter: Chapter
    title: str
    stem: str

    @property
    def section(self) -> str:
        """The number and letter of its section: ``"119.1a"``."""
        return f"{self.chapter.number}.{self.stem.partition('_')[0]}"

    @property
    def name(self) -> str:
        """The stem without its number, as the package and the tests use it: ``distributed``."""
        return self.stem.partition("_")[2]

    @property
    def page(self) -> str:
        """Its page, relative to the root and without a suffix."""
        return f"{self.chapter.folder}/{self.stem}"

    def is_here(self, root: Path) -> bool:
        """Whether the source of its page is there."""
        return (root / f"{self.page}.py").is_file()


@dataclass(frozen=True)
class Chapter:
    """A chapter of the document and its systems, in the document's order."""

    number: int
    title: str
    package: str
    stems: tuple[tuple[str, str], ...]

    @property
    def folder(self) -> str:
        """Where its pages lie, relative to the root."""
        return f"chapters/{self.number}_{self.package}"

    @property
    def systems(self) -> list[System]:
        """Its systems."""
        return [System(self, title, stem) for stem, title in self.stems]

    @property
    def overview(self) -> str:
        """The page that introduces it."""
        return f"{self.folder}/0_overview"

    def is_here(self, root: Path) -> bool:
        """Whether the source of its overview is there."""
        return (root / f"{self.overview}.py").is_file()


def read(root: Path) -> list[Chapter]:
    """The chapters of the ledger, in its order.

    Raises SystemsError when an entry lacks a field, or a page of such a chapter is not in it.
    """
    chapters = []
    for entry in yaml.safe_load((root / LEDGER).read_text(encoding="utf8")):
        try:
            stems = tuple((system["page"], system["title"]) for system in entry["systems"])
            chapters.append(Chapter(entry["chapter"], entry["title"], entry["package"], stems))
        except (KeyError, TypeError) as error:
            raise SystemsError(f"{LEDGER}: {entry!r} lacks {error}") from None
    known = {page for c in chapters for page in (c.overview, *(s.page for s in c.systems))}
    for chapter in chapters:
        for source in sorted(root.glob(f"{chapter.folder}/*.py")):
            page = source.relative_to(root).with_suffix("").as_posix()
            if page not in known:
                raise SystemsError(f"{LEDGER} does not name {page}: add what it explains")
    return chapters


def count(root: Path) -> tuple[int, int]:
    """How many systems are here, and how many the document has."""
    systems = [system for chapter in read(root) for system in chapter.systems]
    return sum(system.is_here(root) for system in systems), len(systems)
