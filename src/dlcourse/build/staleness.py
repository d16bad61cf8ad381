"""Whether the records of a notebook's cells are of the code as it is now."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlcourse.build import project
from dlcourse.build.digests import cell_digest, code_digest
from dlcourse.build.reach import Package
from dlcourse.build.sources import read_source, recorded_cells
from dlcourse.notebook.records import CellRecord, RecordError, has_tag, kind_of, read_records

DEFINITIONS_TAG = "definitions"  # cells that run before a recorded cell: imports, functions


@dataclass(frozen=True)
class RecordState:
    """A recorded cell: what there is of it, and what has changed since.

    ``changed`` is None where the record is of the code as it is, else ``cell`` or ``code``.
    """

    key: str  # such as "119.2.step-time"
    kind: str  # gpu or long
    record: CellRecord | None
    changed: str | None
    digests: tuple[str, str]  # of the cell, and of the package's code, as they are now

    @property
    def state(self) -> str:
        """``missing``, ``older code`` or ``current``."""
        if self.record is None:
            return "missing"
        return "older code" if self.changed else "current"


def definitions_of(notebook: Any) -> list[str]:
    """The sources of the cells that run before a recorded one, in order.

    Raises RecordError for one that is not plain Python: what a cell uses could not be told.
    """
    found = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and has_tag(cell, DEFINITIONS_TAG):
            try:
                ast.parse(cell.source)
            except SyntaxError as error:
                raise RecordError(
                    f"cell {index} is tagged {DEFINITIONS_TAG} but is not plain Python "
                    f"({error.msg}); move lines that begin with % or ! to another cell"
                ) from None
            found.append(cell.source)
    return found


def record_states(
    notebook: Any, root: Path, source: Path, package: Package
) -> dict[str, RecordState]:
    """The state of each recorded cell of a source's notebook, by its key, in order."""
    cells = recorded_cells(notebook)
    if not cells:
        return {}
    known = read_records(project.records_path(root, root / source))
    definitions = definitions_of(notebook)
    section = project.section_of(root, root / source)
    found = {}
    for name, cell in cells.items():
        now = (
            cell_digest(definitions, cell["source"]),
            code_digest(package, definitions, cell["source"]),
        )
        record = known.get(name)
        changed = None
        if record is not None:
            changed = "cell" if record.cell != now[0] else "code" if record.code != now[1] else None
        key = f"{section}.{name}"
        found[key] = RecordState(key, kind_of(cell), record, changed, now)
    return found


def all_record_states(root: Path, sources: Iterable[Path]) -> Iterator[RecordState]:
    """The state of every recorded cell of the given sources (relative to ``root``)."""
    package = Package(root)
    for source in sources:
        notebook = read_source(root / source, root)
        yield from record_states(notebook, root, source, package).values()
