"""What ``dlcourse list`` shows: one row for each chapter that the table of contents lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dlcourse.build import project, records, runner, sources


@dataclass(frozen=True)
class Row:
    """One chapter. ``gpu`` tells of its gpu cells and their record, ``last`` of its last run."""

    title: str
    source: str
    extra: str
    gpu: str
    last: str


def _gpu_state(root: Path, source: Path, cells: dict) -> str:
    if not cells:
        return "no GPU cells"
    count = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
    try:
        record = records.read_record(records.record_path(root / source))
    except records.RecordError as error:
        return f"invalid record: {error}"
    if record is None:
        return f"{count}, no record"
    missing = sum(name not in record.cells for name in cells)
    stale = sum(
        name in record.cells
        and record.cells[name].source_sha256 != records.source_digest(cell["source"])
        for name, cell in cells.items()
    )
    state = f"{count}, recorded {record.date[:10]} on {record.device}"
    return (
        state + (f"; {stale} stale" if stale else "") + (f"; {missing} missing" if missing else "")
    )


def _last_state(entry: dict | None) -> str:
    if entry is None:
        return "never run"
    measured = f"{entry['result']}, {entry['seconds']:.0f} s, {entry['peak_memory_mb']:.0f} MB"
    return f"{measured}, {entry['date'][:10]}"


def overview(root: Path) -> list[Row]:
    """One row for each listed chapter, in the book's order."""
    summary = runner.read_summary(root)
    rows = []
    for path in project.listed_sources(root):
        source = path.relative_to(root)
        notebook = sources.read_source(path)
        rows.append(
            Row(
                title=sources.title_of(notebook) or path.stem,
                source=source.as_posix(),
                extra=project.extra_of(root, path) or "none",
                gpu=_gpu_state(root, source, records.gpu_cells(notebook)),
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
        f"  gpu      {row.gpu}",
        f"  last run {row.last}",
    ]
