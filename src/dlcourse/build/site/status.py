"""``{status}``, ``{records}``, ``{systems}``: what was measured, recorded, and is here."""

from __future__ import annotations

from pathlib import Path

import nbformat
from docutils import nodes

from dlcourse.build import project, systems
from dlcourse.build.reach import Package
from dlcourse.build.results import CPU_BUDGET, MEMORY_BUDGET, executed_path
from dlcourse.build.site.directives import CourseDirective, list_table
from dlcourse.build.staleness import RecordState, record_states
from dlcourse.notebook.records import duration

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
                _measured(run.get("cpu_seconds"), CPU_BUDGET, "s"),
                f"{run['seconds']:,.0f} s",
                _measured(run["peak_memory_mb"], MEMORY_BUDGET, "MB"),
                str(run["date"])[:10],
            )
            for page, run in runs.items()
        ]
        over = sum(any(OVER in cell for cell in row) for row in rows)
        budget = (
            f"The budget of a notebook is {CPU_BUDGET:.0f} seconds of CPU time and "
            f"{MEMORY_BUDGET:,.0f} MB of memory. Over it: {over or 'none'} of {len(rows)}."
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


class Records(CourseDirective):
    """``{records}``: when and on what each recorded cell ran, and whether its code has changed."""

    def build(self) -> list[nodes.Node]:
        signs = {"current": "✓", "older code": "▲", "missing": "✗"}
        rows = []
        for page, found in recorded_cells(self.root):
            record = found.record
            rows.append(
                (
                    f"{{doc}}`{found.key} </{page}>`",
                    f"{signs[found.state]} {found.state}",
                    record.device if record else "–",
                    record.date[:10] if record else "–",
                    duration(record.seconds) if record else "–",
                )
            )
        if not rows:
            return self.parse(["No notebook has such a cell."])
        header = ("Cell", "Record", "Recorded on", "Date", "Took")
        return self.parse(list_table(header, rows, ":class: status"))


def recorded_cells(root: Path) -> list[tuple[str, RecordState]]:
    """Page and state of each recorded cell of the executed notebooks, in the book's order."""
    package, found = Package(root), []
    for path in project.listed_sources(root):
        source = path.relative_to(root)
        notebook = nbformat.read(executed_path(root, source), as_version=4)
        states = record_states(notebook, root, source, package).values()
        found += [(source.with_suffix("").as_posix(), state) for state in states]
    return found


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
