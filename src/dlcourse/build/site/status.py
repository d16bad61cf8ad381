"""``{status}``, ``{records}``, ``{systems}``: what was measured, what was recorded, what is here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from docutils import nodes

from dlcourse.build import records, systems
from dlcourse.build.site.directives import EXECUTED, CourseDirective, list_table

CPU_SECONDS, MEGABYTES = 30, 1500  # the budget of a notebook
OVER = "▲ over"


class Status(CourseDirective):
    """``{status}``: one row a notebook; what is over the budget is marked."""

    def build(self) -> list[nodes.Node]:
        runs = {
            page: run
            for page, run in sorted(self.summary().items())
            if page in self.env.found_docs
        }
        rows = [
            (
                f"{{doc}}`/{page}`",
                "✓ ok" if run["result"] == "ok" else f"✗ {run['result']}",
                _measured(run.get("cpu_seconds"), CPU_SECONDS, "s"),
                f"{run['seconds']:,.0f} s",
                _measured(run["peak_memory_mb"], MEGABYTES, "MB"),
                str(run["date"])[:10],
            )
            for page, run in runs.items()
        ]
        over = sum(any(OVER in cell for cell in row) for row in rows)
        budget = (
            f"The budget of a notebook is {CPU_SECONDS} seconds of CPU time and {MEGABYTES:,} MB "
            f"of memory; {over or 'none'} of the {len(rows)} {'is' if over == 1 else 'are'} over it."
        )
        devices = " and ".join(sorted({run["device"] for run in runs.values()}))
        total = sum(run["seconds"] for run in runs.values()) / 60
        together = f"Run on {devices}. All notebooks together: {total:.1f} minutes."
        header = ("Notebook", "Result", "CPU time", "Time", "Memory", "Run on")
        table = list_table(header, rows, ":class: status")
        return self.parse([budget, "", *table, "", together])


def _measured(value: float | None, limit: float, unit: str) -> str:
    """A measurement with its unit, and a mark where it is over its limit."""
    if value is None:
        return "–"
    text = f"{value:,.0f} {unit}"
    return f"**{text}** {OVER}" if value > limit else text


@dataclass(frozen=True)
class RecordedCell:
    """One cell whose outputs are a record, and the state that the record is in."""

    page: str
    cell: str
    state: str  # "current", "older code" or "missing"
    device: str = ""
    date: str = ""


def recorded_cells(root: Path) -> Iterator[RecordedCell]:
    """The recorded cells of all executed notebooks, in the book's order."""
    for file in sorted((root / EXECUTED).glob("chapters/*/*.ipynb")):
        page = file.relative_to(root / EXECUTED).with_suffix("").as_posix()
        record = records.read_record(records.record_path(root / f"{page}.py"))
        for name, cell in records.gpu_cells(nbformat.read(file, as_version=4)).items():
            known = record.cells.get(name) if record else None
            if record is None or known is None:
                yield RecordedCell(page, name, "missing")
                continue
            digest = records.source_digest(cell["source"])
            state = "current" if known.source_sha256 == digest else "older code"
            yield RecordedCell(page, name, state, record.device, record.date[:10])


class Records(CourseDirective):
    """``{records}``: when and on what each recorded cell ran, and whether its code has changed."""

    def build(self) -> list[nodes.Node]:
        signs = {"current": "✓", "older code": "▲", "missing": "✗"}
        rows = [
            (
                f"{{doc}}`/{found.page}`",
                found.cell,
                f"{signs[found.state]} {found.state}",
                found.device or "–",
                found.date or "–",
            )
            for found in recorded_cells(self.root)
            if found.page in self.env.found_docs
        ]
        if not rows:
            return self.parse(["No notebook has such a cell."])
        header = ("Notebook", "Cell", "Record", "Recorded on", "Date")
        return self.parse(list_table(header, rows, ":class: status"))


class Systems(CourseDirective):
    """``{systems}``: the systems of the document, and the page of each that is here."""

    def build(self) -> list[nodes.Node]:
        self.env.note_dependency(str(self.root / systems.LEDGER))
        rows, here = [], 0
        for chapter in systems.read(self.root):
            for system in chapter.systems:
                there = system.page in self.env.found_docs
                here += there
                page = f"{{doc}}`/{system.page}`" if there else "to come"
                rows.append((system.section, system.title, chapter.title, page))
        table = list_table(("Section", "System", "Chapter", "Page"), rows, ":class: systems")
        return self.parse([f"{here} of {len(rows)} are here.", "", *table])
