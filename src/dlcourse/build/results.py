"""Where executed notebooks lie, and what was measured of them.

- ``_build/executed/<source>.ipynb``, which the site shows,
- ``_build/executed/summary.json``, from which the status page is made.
"""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlcourse import devices
from dlcourse.build import sources
from dlcourse.build.worker import Outcome, clean
from dlcourse.files import TEMPORARY_SUFFIX, write_atomic

EXECUTED = Path("_build/executed")
SUMMARY = EXECUTED / "summary.json"
CPU_BUDGET = 30.0  # CPU seconds of a notebook
MEMORY_BUDGET = 1500.0  # MB at the peak


def executed_path(root: Path, source: Path) -> Path:
    """Where the executed copy of ``source`` (relative to ``root``) lies."""
    return root / EXECUTED / source.with_suffix(".ipynb")


def read_summary(root: Path) -> dict[str, dict[str, Any]]:
    """The last result of each notebook by source path; empty when there is none to read."""
    try:
        summary = json.loads((root / SUMMARY).read_text(encoding="utf8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return summary if isinstance(summary, dict) else {}


def update_summary(root: Path, source: Path, entry: dict[str, Any] | None) -> None:
    """Set one entry (None removes it), leaving what other runs have written."""
    summary = read_summary(root)
    summary.pop(source.as_posix(), None)
    if entry is not None:
        summary[source.as_posix()] = entry
    write_atomic(root / SUMMARY, json.dumps(summary, indent=1, sort_keys=True) + "\n")


def over_budget(entry: dict[str, Any]) -> list[str]:
    """What of a summary's entry is over the budget of a notebook, in words."""
    found = []
    if entry.get("cpu_seconds", 0) > CPU_BUDGET:
        found.append(f"{entry['cpu_seconds']:.0f} CPU seconds (budget {CPU_BUDGET:.0f})")
    if entry.get("peak_memory_mb", 0) > MEMORY_BUDGET:
        found.append(f"{entry['peak_memory_mb']:,.0f} MB (budget {MEMORY_BUDGET:,.0f})")
    return found


def prune(root: Path) -> list[Path]:
    """Delete executed copies whose source is gone, and what killed runs have left half-written."""
    folder = root / EXECUTED
    stale = []
    for copy in sorted(folder.rglob("*.ipynb")):
        source = copy.relative_to(folder).with_suffix(".py")
        if not (root / source).is_file():
            copy.unlink()
            stale.append(source)
    for source in {*stale, *(Path(s) for s in read_summary(root) if not (root / s).is_file())}:
        update_summary(root, source, None)
    for left in folder.rglob(f".*{TEMPORARY_SUFFIX}"):
        if time.time() - left.stat().st_mtime > 60:  # younger ones may belong to a run under way
            left.unlink(missing_ok=True)
    return stale


def badge(outcome: Outcome, device: str) -> str:
    """The line under a page's title: time, memory and device as measured."""
    return (
        f'<p class="badge-line">Measured when this page was built: {outcome.cpu_seconds:.0f} '
        f"seconds of one core, {outcome.peak_memory_mb:,.0f} MB of memory at the peak, "
        f"on {device}.</p>"
    )


def insert_badge(notebook: Any, line: str) -> None:
    """Put the badge line right below the first heading of the first Markdown cell that has one."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = re.search(r"^#{1,6}\s+.+$", cell.source, re.MULTILINE)
            if heading:
                before, after = cell.source[: heading.end()], cell.source[heading.end() :]
                cell.source = f"{before}\n\n{line}\n\n{after.lstrip(chr(10))}".rstrip("\n")
                return


def store(root: Path, outcome: Outcome, key: str) -> Outcome:
    """Write the executed notebook and the summary's entry of one outcome."""
    import nbformat

    device = devices.device_name()
    target = executed_path(root, outcome.source)
    if outcome.result == "ok":
        notebook = nbformat.reads(outcome.notebook, as_version=4)
        clean(notebook)
        insert_badge(notebook, badge(outcome, device))
        write_atomic(target, sources.notebook_text(notebook))
    else:
        target.unlink(missing_ok=True)  # the site must not show what the source no longer gives
    entry = {
        "result": outcome.result,
        "seconds": round(outcome.seconds, 2),
        "cpu_seconds": round(outcome.cpu_seconds, 2),
        "peak_memory_mb": round(outcome.peak_memory_mb, 1),
        "device": device,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "key": key,
        "error": outcome.error,
    }
    update_summary(root, outcome.source, entry)
    return outcome
