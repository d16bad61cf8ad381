"""``{chapters}`` and ``{shown}``: the course on its landing page, taken from executed notebooks."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives

from dlcourse.build import project, systems
from dlcourse.build.results import EXECUTED
from dlcourse.build.site.directives import GENERATED, CourseDirective, raw_html
from dlcourse.chapters import extra_of


class Chapters(CourseDirective):
    """``{chapters}``: a card for each chapter of the document, here or to come.

    A card has a figure of the chapter: the one that a cell's metadata marks with ``card``, else the
    first of its notebooks.
    """

    def build(self) -> list[nodes.Node]:
        self.env.note_dependency(str(self.root / systems.LEDGER))
        here, coming = [], []
        for chapter in systems.read(self.root):
            is_here = chapter.overview in self.env.found_docs
            (here if is_here else coming).append(self.card(chapter, is_here))
        lines = []
        for cards, columns in ((here, "1 1 2 2"), (coming, "1 1 2 3")):
            if cards:
                lines += [f":::::{{grid}} {columns}", ":gutter: 3", ":class-container: chapters"]
                lines += ["", *(line for card in cards for line in card), ":::::", ""]
        return self.parse(lines)

    def card(self, chapter: systems.Chapter, is_here: bool) -> list[str]:
        """The lines of one card."""
        title = f"{chapter.number} {chapter.title}"
        head = f"{{doc}}`{title} </{chapter.overview}>`" if is_here else title
        lines = [f"::::{{grid-item-card}} {head}"]
        if is_here and (picture := self.picture(chapter)):
            path, alt = picture
            lines += [f":img-top: /{path.as_posix()}", f":img-alt: {alt}"]
        lines += [f":class-card: chapter-card{'' if is_here else ' to-come'}", ""]
        for system in chapter.systems:
            there = system.page in self.env.found_docs
            name = f"{{doc}}`{system.title} </{system.page}>`" if there else system.title
            lines.append(f"- {name}{' *(to come)*' if is_here and not there else ''}")
        footer = self.needs(chapter) if is_here else "To come"
        lines += ["", ":::{card-footer}", footer, ":::", "::::"]
        return lines

    def needs(self, chapter: systems.Chapter) -> str:
        """What it takes to run the chapter: measured minutes, packages beyond the core."""
        runs = [r for page, r in self.summary().items() if page.startswith(chapter.folder + "/")]
        minutes = math.ceil(sum(run["seconds"] for run in runs) / 60)
        extra = extra_of(chapter.package)
        extras = project.pyproject(self.root).get("optional-dependencies", {}).get(extra, [])
        beyond = f"needs `dlcourse[{extra}]`" if extras else "no further packages"
        return f"{len(runs)} notebooks, {minutes} min to run them all · no GPU needed · {beyond}"

    def picture(self, chapter: systems.Chapter) -> tuple[Path, str] | None:
        """The chapter's figure as a file that the page can show, and its alternative text."""
        cells = [
            cell
            for file in sorted((self.root / EXECUTED / chapter.folder).glob("*.ipynb"))
            for cell in _cells(self.read(file.relative_to(self.root)))
            if _figure(cell)
        ]
        if not cells:
            return None
        png, alt = _figure(next((c for c in cells if c["metadata"].get("card")), cells[0]))
        path = GENERATED / "cards" / f"{chapter.number}.png"
        file = self.root / path
        if not file.is_file() or file.read_bytes() != png:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png)
        return path, alt


class Shown(CourseDirective):
    """``{shown} chapters/…/2_optimizers``: the moving figure of a page, on this one.

    ``:name:`` is the figure's HTML id.
    """

    required_arguments = 1
    option_spec = {"name": directives.unchanged_required}

    def build(self) -> list[nodes.Node]:
        wanted = f'id="{self.options["name"]}"'
        for cell in _cells(self.read(EXECUTED / f"{self.arguments[0]}.ipynb")):
            for output in cell.get("outputs", []):
                markup = "".join(output.get("data", {}).get("text/html", ""))
                if wanted in markup:
                    return [raw_html(markup)]
        raise LookupError(f"{self.arguments[0]} shows nothing with {wanted}")


def _cells(text: str) -> list[dict[str, Any]]:
    return json.loads(text)["cells"]


def _figure(cell: dict[str, Any]) -> tuple[bytes, str] | None:
    """The PNG that a cell shows as a figure, and its alternative text."""
    mystnb = cell["metadata"].get("mystnb", {})
    if "figure" not in mystnb:
        return None
    for output in cell.get("outputs", []):
        if png := output.get("data", {}).get("image/png"):
            alt = mystnb.get("image", {}).get("alt") or mystnb["figure"].get("caption", "")
            return base64.b64decode("".join(png)), " ".join(alt.split())
    return None
