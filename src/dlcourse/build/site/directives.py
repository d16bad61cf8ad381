"""What the site's directives share: lines of MyST made from files, parsed where they stand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from dlcourse.build.results import SUMMARY

LOGGER = logging.getLogger(__name__)
#: Files that the site is made from besides the pages; they lie where Sphinx can read them.
GENERATED = Path("_build/site")
COMMIT = GENERATED / "commit"  # what a page that names the commit depends on


class CourseDirective(SphinxDirective):
    """Base of a directive that shows files of the course.

    A file that cannot be read, or does not hold what it must, is a warning at the directive, and
    so fails the build.
    """

    @property
    def root(self) -> Path:
        """The checkout."""
        return Path(self.env.srcdir)

    def read(self, path: Path) -> str:
        """The text of a file, with the page marked as outdated when the file changes."""
        file = self.root / path
        self.env.note_dependency(str(file))
        return file.read_text(encoding="utf-8")

    def summary(self) -> dict[str, dict[str, Any]]:
        """What the last run of each notebook measured, by page."""
        runs = json.loads(self.read(SUMMARY))
        return {str(Path(path).with_suffix("")): run for path, run in runs.items()}

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
        """The directive's nodes; a warning where what it is made from cannot be read."""
        try:
            return self.build()
        except (OSError, ValueError, LookupError, yaml.YAMLError) as error:
            self.warn(f"{self.name}: {error}")
            return []

    def build(self) -> list[nodes.Node]:
        """The directive's nodes."""
        raise NotImplementedError


def raw_html(markup: str) -> nodes.raw:
    """A node that stands for ``markup`` on the site and for nothing elsewhere."""
    return nodes.raw("", markup, format="html")


def list_table(header: tuple[str, ...], rows: Iterable[tuple], *options: str) -> list[str]:
    """A MyST table; a cell is a text, or a tuple of paragraphs."""
    out = [":::{list-table}", ":header-rows: 1", *options, "", *_row(header)]
    return [*out, *(line for row in rows for line in _row(row)), ":::"]


def _row(cells: tuple) -> list[str]:
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
