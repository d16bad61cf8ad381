"""Record cells that need a GPU or take minutes: ``dlcourse record``.

A cell runs in a kernel of its own, after the notebook's imports and definitions (the cells tagged
``definitions``) and nothing else. So one cell can be recorded in its own time, and the record of
another is not touched. A cell that fails leaves its old record as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlcourse import devices
from dlcourse.build import project
from dlcourse.build.reach import Package
from dlcourse.build.sources import notebook_text, read_source, recorded_cells, set_cell_ids
from dlcourse.build.staleness import DEFINITIONS_TAG, RecordState, record_states
from dlcourse.build.worker import Job, Outcome, execute, explain
from dlcourse.notebook import records
from dlcourse.notebook.recorded import RECORDING


@dataclass(frozen=True)
class Recording:
    """What became of one cell: ``recorded``, ``failed``, or ``skipped``, and why."""

    key: str
    result: str
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Wanted:
    """A cell that should be recorded."""

    source: Path  # relative to the root
    name: str
    state: RecordState


def wanted(
    root: Path,
    chosen: Sequence[Path],
    *,
    kind: str | None = None,
    keys: Sequence[str] = (),
    everything: bool = False,
) -> list[Wanted]:
    """The cells to record: those named by ``keys``, or what is missing or of older code.

    Args:
        chosen: sources relative to ``root``.
        kind: only ``gpu``, or only ``long``.
        everything: also what is recorded and of the code as it is.

    Raises RecordError for a key that no chosen source has.
    """
    package = Package(root)
    found = []
    for source in chosen:
        notebook = read_source(root / source, root)
        for key, state in record_states(notebook, root, source, package).items():
            found.append(Wanted(source, records.parse_key(key)[2], state))
    if keys:
        known = {item.state.key: item for item in found}
        if unknown := [key for key in keys if key not in known]:
            listed = ", ".join(known) or "none"
            raise records.RecordError(
                f"no such recorded cell: {', '.join(unknown)}; there are: {listed}"
            )
        return [known[key] for key in dict.fromkeys(keys)]
    return [
        item
        for item in found
        if kind in (None, item.state.kind) and (everything or item.state.state != "current")
    ]


def cut_down(notebook: Any, name: str) -> Any:
    """The definition cells of a notebook and the one cell that is recorded."""
    cut = copy.deepcopy(notebook)
    cut.cells = [
        cell
        for cell in cut.cells
        if cell.cell_type == "code"
        and (records.has_tag(cell, DEFINITIONS_TAG) or _is(cell, name))
    ]
    set_cell_ids(cut)
    return cut


def _is(cell: Any, name: str) -> bool:
    return records.kind_of(cell) is not None and cell.metadata.get("name") == name


def record(
    root: Path,
    cells: Sequence[Wanted],
    *,
    timeout: int = 3600,
    threads: int | None = None,
    finished: Callable[[Recording], None] = lambda recording: None,
) -> list[Recording]:
    """Record cells, one after the other, and write each record as soon as its cell has ended.

    Args:
        cells: what ``wanted`` gave.
        timeout: seconds that one cell may take.
        threads: of the kernel; by default one on a CPU and all cores on a GPU machine.

    A cell that needs a GPU is skipped where there is none.
    """
    done = []
    for item in cells:
        if item.state.kind == "gpu" and not devices.gpu_available():
            recording = Recording(item.state.key, "skipped", reason="needs a GPU; there is none")
        else:
            recording = _record_one(root, item, timeout, threads)
        done.append(recording)
        finished(recording)
    return done


def _record_one(root: Path, item: Wanted, timeout: int, threads: int | None) -> Recording:
    if threads is None:
        threads = devices.available_cores() if item.state.kind == "gpu" else 1
    try:
        # All is read again: others may have been recorded, and edited, since it was wanted.
        notebook = read_source(root / item.source, root)
        now = record_states(notebook, root, item.source, Package(root)).get(item.state.key)
        if now is None:
            raise records.RecordError(f"{item.source} no longer has the cell {item.name!r}")
        job = Job(
            root,
            item.source,
            notebook_text(cut_down(notebook, item.name)),
            timeout,
            run_recorded=True,
            environment={RECORDING: "1"},
            threads=threads,
        )
        path = project.records_path(root, root / item.source)
        records.dumps(_others(path, notebook, item.name))  # too large is found before the run
        outcome = execute(job)
        if outcome.result != "ok":
            return Recording(item.state.key, "failed", outcome.seconds, outcome.report or "")
        made = _record_of(root, item.name, now, outcome)
        # Read again: another process may have recorded another cell in the meantime.
        records.write_records(path, {**_others(path, notebook, item.name), item.name: made})
    except Exception as exception:  # noqa: BLE001 - spoils this cell only
        return Recording(item.state.key, "failed", reason=explain(exception)[1])
    return Recording(item.state.key, "recorded", made.seconds)


def _others(path: Path, notebook: Any, name: str) -> records.Records:
    """The records of the other cells that the notebook still has."""
    known = records.read_records(path)
    return {n: known[n] for n in recorded_cells(notebook) if n in known and n != name}


def _record_of(root: Path, name: str, state: RecordState, outcome: Outcome) -> records.CellRecord:
    import nbformat

    executed = nbformat.reads(outcome.notebook, as_version=4)
    (cell,) = [cell for cell in executed.cells if _is(cell, name)]
    outputs, values = records.split_outputs(cell.outputs, name)
    on_gpu = state.kind == "gpu"
    return records.CellRecord(
        kind=state.kind,
        device=devices.device_name() if on_gpu else devices.cpu_name(),
        versions=devices.versions(),
        date=datetime.now(UTC).date().isoformat(),
        commit=devices.commit(root),
        seconds=round(cell.metadata.papermill.duration, 2),
        peak_memory_mb=round(outcome.peak_memory_mb, 1),
        cell=state.digests[0],
        code=state.digests[1],
        outputs=outputs,
        values=values,
    )
