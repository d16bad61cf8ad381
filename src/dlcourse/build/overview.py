"""What ``dlcourse list`` shows: one row for each chapter that the table of contents lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dlcourse.build import project, results, sources
from dlcourse.build.reach import Package
from dlcourse.build.staleness import RecordState, record_states


@dataclass(frozen=True)
class Row:
    """One page. ``records`` tells of its recorded cells, ``last`` of its last run."""

    title: str
    source: str
    extra: str
    records: str
    last: str


def _records_state(states: Iterable[RecordState]) -> str:
    counts = Counter(state.state for state in states)
    count = sum(counts.values())
    if not count:
        return "none"
    cells = f"{count} cell{'' if count == 1 else 's'}"
    return f"{cells}: " + ", ".join(f"{n} {state}" for state, n in counts.items())


def _last_state(entry: dict | None) -> str:
    if entry is None:
        return "never run"
    measured = f"{entry.get('cpu_seconds', 0):.0f} CPU s, {entry['peak_memory_mb']:.0f} MB"
    excess = "".join(f"; over budget: {text}" for text in results.over_budget(entry))
    return f"{entry['result']}, {measured}, {entry['date'][:10]}{excess}"


def overview(root: Path) -> list[Row]:
    """One row for each listed chapter, in the book's order."""
    summary, package = results.read_summary(root), Package(root)
    rows = []
    for path in project.listed_sources(root):
        source = path.relative_to(root)
        notebook = sources.read_source(path, root)
        rows.append(
            Row(
                title=sources.title_of(notebook) or path.stem,
                source=source.as_posix(),
                extra=project.extra_of(root, path) or "none",
                records=_records_state(record_states(notebook, root, source, package).values()),
                last=_last_state(summary.get(source.as_posix())),
            )
        )
    return rows


def lines(row: Row) -> list[str]:
    """A row as lines for a terminal."""
    return [
        row.title,
        f"  source   {row.source}",
        f"  extra    {row.extra}",
        f"  recorded {row.records}",
        f"  last run {row.last}",
    ]
