"""Directives ``{errata}`` and ``{status}``: tables made from files, never typed by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)
ERRATA = Path("book/errata.yml")
BIBLIOGRAPHY = Path("book/references.bib")
SUMMARY = Path("_build/executed/summary.json")
FIELDS = ("section", "system", "defect", "consequence", "correct", "source", "test")


class TableDirective(SphinxDirective):
    """Base: write MyST lines from a file which the page then depends on."""

    def read(self, path: Path) -> str:
        """The text of a file, with the page marked as outdated when the file changes."""
        file = Path(self.env.srcdir, path)
        self.env.note_dependency(str(file))
        return file.read_text(encoding="utf-8")

    def warn(self, message: str) -> None:
        """A build warning at this directive (the build treats warnings as errors)."""
        LOGGER.warning(message, location=self.get_location())

    def parse(self, lines: Iterable[str]) -> list[nodes.Node]:
        """Parse MyST lines as if they stood on the page."""
        parent = nodes.container()
        parent.document = self.state.document
        text = StringList(list(lines), source=self.get_source_info()[0])
        self.state.nested_parse(text, 0, parent)
        return parent.children

    def run(self) -> list[nodes.Node]:
        """The nodes of the table; a warning where what it is made from cannot be read."""
        try:
            return self.build()
        except (OSError, ValueError, yaml.YAMLError) as error:
            self.warn(f"{self.name}: {error}")
            return []

    def build(self) -> list[nodes.Node]:
        """The nodes of the table."""
        raise NotImplementedError


class ErrataTable(TableDirective):
    """``{errata}``: the ledger of the listings' defects, one table a section."""

    def build(self) -> list[nodes.Node]:
        entries = yaml.safe_load(self.read(ERRATA)) or []
        keys = set(re.findall(r"^@\w+\{([^,\s]+)", self.read(BIBLIOGRAPHY), re.MULTILINE))
        good = [entry for entry in entries if self.is_complete(entry)]
        good.sort(key=lambda entry: [int(part) for part in str(entry["section"]).split(".")])
        count = len({(entry["section"], entry["system"]) for entry in good})
        out = self.parse([f"{len(good)} defects in {count} listings, each shown by a test."])
        for number, entries in groupby(good, key=lambda entry: str(entry["section"])):
            group = list(entries)
            section = nodes.section(ids=[f"errata-{number.replace('.', '-')}"], names=[number])
            section += nodes.title(text=number)
            section += self.parse(self.chapter(number, group))
            section += self.parse(self.table(group, keys))
            out.append(section)
        return out

    def is_complete(self, entry: Any) -> bool:
        """Warn of an entry that lacks a field, and leave it out."""
        if not isinstance(entry, dict):
            self.warn(f"{ERRATA}: not a mapping: {entry!r}")
            return False
        if missing := [field for field in FIELDS if not entry.get(field)]:
            self.warn(f"{ERRATA}: {entry.get('system')}: missing {', '.join(missing)}")
        return not missing

    def chapter(self, number: str, entries: list[dict[str, Any]]) -> list[str]:
        """Links to the pages that explain a section's listings: an entry names its ``page`` where
        the file's number is not the document's."""
        chapter, _, part = number.partition(".")
        found = set()
        for entry in entries:
            stem = entry.get("page")
            pattern = re.compile(rf"chapters/{chapter}_\w+/" + (f"{stem}$" if stem else f"{part}_"))
            pages = set(filter(pattern.match, self.env.found_docs))
            if stem and not pages:
                self.warn(f"{ERRATA}: {entry['system']}: no such page: {stem}")
            found |= pages
        links = ", ".join(f"{{doc}}`/{page}`" for page in sorted(found))
        return [f"Explained in {links}."] if found else []

    def table(self, entries: Iterable[dict[str, Any]], keys: set[str]) -> list[str]:
        """One row a defect: its source cited, its test linked at the commit of the site."""
        out = [":::{list-table}", ":header-rows: 1", ":class: errata", ":widths: 16 34 34 16", ""]
        out += _row(("System", "What the listing does", "What is right", "Shown by"))
        for entry in entries:
            source = str(entry["source"])
            cited = f"{{cite:t}}`{source}`" if source in keys else source
            out += _row(
                (
                    entry["system"],
                    (entry["defect"], f"*Seen:* {entry['consequence']}"),
                    (entry["correct"], f"*Source:* {cited}"),
                    self.test_link(entry),
                )
            )
        return [*out, ":::"]

    def test_link(self, entry: dict[str, Any]) -> str:
        """A link to the test's file, with the test's name as words so that it can break."""
        file, _, name = str(entry["test"]).partition("::")
        if not Path(self.env.srcdir, file).is_file():
            self.warn(f"{ERRATA}: {entry['system']}: no such test file: {file}")
        words = name.removeprefix("test_").replace("_", " ")
        return f"[{words or file}]({self.env.app.course_repository.file_url(file)})"


class StatusTable(TableDirective):
    """``{status}``: what the last run of every notebook measured, and its GPU record."""

    def build(self) -> list[nodes.Node]:
        summary = json.loads(self.read(SUMMARY))
        out = [":::{list-table}", ":header-rows: 1", ":class: status", ""]
        out += _row(("Notebook", "Result", "Time", "Memory", "Device", "Run", "GPU record"))
        total = 0.0
        for path, run in sorted(summary.items()):
            page = str(Path(path).with_suffix(""))
            if page not in self.env.found_docs:
                continue
            total += run["seconds"]
            result = "✓ ok" if run["result"] == "ok" else f"✗ {run['result']}"
            time, memory = f"{run['seconds']:.0f} s", f"{run['peak_memory_mb']:,.0f} MB"
            date = str(run["date"])[:10]
            record = self.record(Path(page + ".gpu.json"))
            out += _row((f"{{doc}}`/{page}`", result, time, memory, run["device"], date, record))
        out += [":::", "", f"All notebooks together: {total / 60:.1f} minutes."]
        return self.parse(out)

    def record(self, path: Path) -> str:
        """The device and date of a notebook's GPU record."""
        if not Path(self.env.srcdir, path).is_file():
            return "none"
        record = json.loads(self.read(path))
        return f"{record['device']}, {str(record['date'])[:10]}"


def _row(cells: Iterable[Any]) -> list[str]:
    """A row of a list-table; a cell is a text, or a tuple of paragraphs."""
    lines = []
    for i, cell in enumerate(cells):
        first, *more = cell if isinstance(cell, tuple) else (cell,)
        lines.append(f"{'  ' if i else '* '}- {_fold(first)}")
        for paragraph in more:
            lines += ["", f"    {_fold(paragraph)}"]
    return lines


def _fold(text: Any) -> str:
    """On one line, as a list item needs it."""
    return " ".join(str(text).split())
