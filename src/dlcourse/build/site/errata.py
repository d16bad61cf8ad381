"""``{errata}`` and ``{corrections}``: what is wrong in the listings, and what was wrong in ours.

Both are gathered from the chapters' folders: ``errata.yml`` has an entry for each defect of a
listing, ``corrections.yml`` (where there is one) an entry for each correction of our own pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes

from dlcourse.build import bibliography
from dlcourse.build.site.directives import COMMIT, CourseDirective, list_table


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a field that is repeated in one entry is an error: the first would be lost.

    So it is where a merge of two lists has swallowed the first line of an entry.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for (key, _), name in zip(node.value, keys):
            if keys.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} is repeated in one entry", key.start_mark
                )
        return super().construct_mapping(node, deep)


def read_entries(text: str) -> list[Any]:
    """The entries of a ledger. Raises yaml.YAMLError, also for a field that is repeated."""
    return yaml.load(text, UniqueKeys) or []  # a SafeLoader


DEFECT = ("page", "system", "defect", "consequence", "correct", "source", "test")
CORRECTION = ("date", "page", "claimed", "right", "seen")


class Ledger(CourseDirective):
    """Base: the complete entries of one file in each chapter's folder, in the order of pages."""

    file: str
    fields: tuple[str, ...]

    def entries(self) -> list[dict[str, Any]]:
        """The entries of all chapters; ``page`` becomes the page's path from the root."""
        found = [
            entry
            for file in sorted(self.root.glob(f"chapters/*/{self.file}"))
            for entry in self.of_chapter(file.relative_to(self.root))
        ]
        return sorted(found, key=lambda entry: entry["page"])

    def of_chapter(self, file: Path) -> Iterator[dict[str, Any]]:
        """The complete entries of a file, with a warning for each of the others."""
        try:
            entries = read_entries(self.read(file))
        except yaml.YAMLError as error:
            self.warn(f"{file}: {error}")
            return
        for entry in entries:
            if not isinstance(entry, dict):
                self.warn(f"{file}: not a mapping: {entry!r}")
            elif missing := [field for field in self.fields if not entry.get(field)]:
                self.warn(f"{file}: {entry!r} lacks {', '.join(missing)}")
            elif (page := f"{file.parent}/{entry['page']}") not in self.env.found_docs:
                self.warn(f"{file}: there is no page {page}")
            else:
                yield {**entry, "page": page}

    def section(self, name: str, title: str, lines: list[str]) -> nodes.section:
        """A section of the page, so that the contents list has it."""
        section = nodes.section(ids=[name], names=[name])
        section += nodes.title(text=title)
        section += self.parse(lines)
        return section


class Errata(Ledger):
    """``{errata}``: the defects of the listings, one table a page of the course."""

    file, fields = "errata.yml", DEFECT

    def build(self) -> list[nodes.Node]:
        keys = set(bibliography.gather(self.root))
        for file in (self.root / COMMIT, *bibliography.files(self.root)):
            self.env.note_dependency(str(file))
        entries = self.entries()
        count = len({(entry["page"], entry["system"]) for entry in entries})
        out = self.parse([f"{len(entries)} defects in {count} listings, each shown by a test."])
        for page, group in groupby(entries, key=lambda entry: entry["page"]):
            number = _section_number(page)
            lines = [f"Explained in {{doc}}`/{page}`.", "", *self.table(list(group), keys)]
            out.append(self.section(f"errata-{number.replace('.', '-')}", number, lines))
        return out

    def table(self, entries: list[dict[str, Any]], keys: set[str]) -> list[str]:
        """One row a defect: its source cited, its test linked at the commit of the site."""
        rows = []
        for entry in entries:
            source = str(entry["source"])
            cited = f"{{cite:t}}`{source}`" if source in keys else source
            rows.append(
                (
                    entry["system"],
                    (entry["defect"], f"*Seen:* {entry['consequence']}"),
                    (entry["correct"], f"*Source:* {cited}"),
                    self.test_link(entry),
                )
            )
        header = ("System", "What the listing does", "What is right", "Shown by")
        return list_table(header, rows, ":class: errata", ":widths: 16 34 34 16")

    def test_link(self, entry: dict[str, Any]) -> str:
        """A link to the test's file, with the test's name as words so that it can break."""
        file, _, name = str(entry["test"]).partition("::")
        if not (self.root / file).is_file():
            self.warn(f"{self.file}: {entry['system']}: no such test file: {file}")
        words = name.removeprefix("test_").replace("_", " ")
        return f"[{words or file}]({self.env.app.course_repository.file_url(file)})"


class Corrections(Ledger):
    """``{corrections}``: what this course itself said wrongly, the newest first."""

    file, fields = "corrections.yml", CORRECTION

    def build(self) -> list[nodes.Node]:
        entries = sorted(self.entries(), key=lambda entry: str(entry["date"]), reverse=True)
        if not entries:
            return []
        rows = [
            (
                str(entry["date"])[:10],
                f"{{doc}}`/{entry['page']}`",
                (entry["claimed"], f"*Seen:* {entry['seen']}"),
                entry["right"],
            )
            for entry in entries
        ]
        header = ("Date", "Page", "What it said", "What is right")
        table = list_table(header, rows, ":class: errata", ":widths: 12 20 38 30")
        intro = "What these pages themselves said wrongly, and since when they say what is right."
        return [self.section("corrected-since", "Corrected since", [intro, "", *table])]


def _section_number(page: str) -> str:
    """``chapters/119_large_scale_training/1c_mixed_precision`` → ``119.1c``."""
    chapter, stem = Path(page).parts[-2:]
    return ".".join(re.match(r"\d+[a-z]?", part)[0] for part in (chapter, stem))
