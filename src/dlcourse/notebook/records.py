"""Recorded cells: what a cell printed, and the values it kept, when it last ran.

Some cells need a GPU (tag ``gpu``), some take minutes (tag ``long``). No page waits for them: they
are run when somebody asks for it (``dlcourse record``), and what they gave is kept in one JSON file
a notebook, ``dlcourse/<chapter>/records/<stem>.json``, which the package carries. Each cell has its
own provenance, so that one can be recorded again without the others.

A cell is named by the section and its name: ``119.2.step-time`` is the cell ``step-time`` of
``chapters/119_large_scale_training/2_optimizers.py``.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date as calendar_date
from pathlib import Path
from typing import Any

from dlcourse.chapters import chapter_folder
from dlcourse.files import write_atomic

KINDS = ("gpu", "long")
SIZE_LIMIT = 200 * 1024  # bytes of the records of one notebook
VALUES_TYPE = "application/vnd.dlcourse.values"  # how ``keep`` hands its values on
_KEPT_TYPES = ("text/plain", "text/html", "image/png")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_KEY = re.compile(r"(?P<chapter>\d+)\.(?P<section>\d+[a-z]?)\.(?P<name>[\w-]+)")


class RecordError(ValueError):
    """A record, or a cell that should be recorded, is not as it must be."""


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """What one cell gave, and where.

    ``cell`` and ``code`` are digests (SHA-256) of the cell's source and of all code of the package
    that it reaches (see ``dlcourse.build.reach``); ``outputs`` have nbformat's form; ``values`` are
    what the cell passed to ``keep``.
    """

    kind: str
    device: str
    versions: dict[str, str]
    date: str
    commit: str
    seconds: float  # wall time of the cell alone
    peak_memory_mb: float  # of the kernel and its children, MB (10⁶ bytes)
    cell: str
    code: str
    outputs: list[dict[str, Any]]
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RecordError(f"a record's kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        texts = {"device": self.device, "date": self.date, "commit": self.commit}
        for name, text in texts.items():
            if not isinstance(text, str) or not text.strip():
                raise RecordError(f"a record needs a non-empty {name!r}, not {text!r}")
        try:
            calendar_date.fromisoformat(self.date[:10])
        except ValueError:
            raise RecordError(f"a record's date is YYYY-MM-DD, not {self.date!r}") from None
        if not self.versions.get("torch"):
            raise RecordError("a record must name the version of torch under 'versions'")
        for name, digest in (("cell", self.cell), ("code", self.code)):
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise RecordError(f"{name!r} of a record is not a SHA-256 in hexadecimal")


Records = dict[str, CellRecord]


def has_tag(cell: Mapping[str, Any], tag: str) -> bool:
    """Whether a notebook's cell carries ``tag``."""
    return tag in cell.get("metadata", {}).get("tags", [])


def kind_of(cell: Mapping[str, Any]) -> str | None:
    """``gpu`` or ``long`` for a cell that is recorded, None for any other."""
    return next((kind for kind in KINDS if has_tag(cell, kind)), None)


# --- the file -------------------------------------------------------------------------------------


def parse_key(key: str) -> tuple[str, str, str]:
    """Chapter, section and name of a cell's key. Raises RecordError for a malformed one."""
    match = _KEY.fullmatch(key) if isinstance(key, str) else None
    if match is None:
        raise RecordError(f"a recorded cell is named such as '119.2.step-time', not {key!r}")
    return match["chapter"], match["section"], match["name"]


def installed_records(chapter: str, section: str) -> Path | None:
    """The records of a section in the installed package; None where it has none."""
    try:
        folder = chapter_folder(chapter)
    except LookupError as error:
        raise RecordError(str(error)) from None
    return next(iter(sorted((folder / "records").glob(f"{section}_*.json"))), None)


def read_records(path: str | Path | None) -> Records:
    """The records of one file by the cell's name; none where there is no file.

    Raises RecordError where the file is not a file of records.
    """
    path = Path(path) if path else None
    if path is None or not path.exists():
        return {}
    try:
        cells = json.loads(path.read_text(encoding="utf8"))["cells"]
        return {name: CellRecord(**cell) for name, cell in cells.items()}
    except RecordError as error:
        raise RecordError(f"{path.name}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(
            f"{path.name} is not a file of records ({type(error).__name__}: {error}); restore it, "
            "or delete it and record its cells again: dlcourse record"
        ) from error


def dumps(records: Records) -> str:
    """The JSON text of a file of records. Raises RecordError above 200 KB."""
    cells = {name: asdict(record) for name, record in records.items()}
    text = json.dumps({"cells": cells}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    size = len(text.encode("utf8"))
    if size > SIZE_LIMIT:
        sizes = {name: len(json.dumps(cell)) // 1024 for name, cell in cells.items()}
        listed = ", ".join(f"{name} {sizes[name]} KB" for name in sorted(sizes, key=sizes.get))
        raise RecordError(
            f"the records have {size // 1024} KB and may have {SIZE_LIMIT // 1024} KB ({listed}): "
            "print less, keep fewer values, or make the figures smaller"
        )
    return text


def write_records(path: str | Path, records: Records) -> None:
    """Write a file of records, whole or not at all. Raises RecordError above 200 KB."""
    write_atomic(path, dumps(records))


# --- from a cell's outputs ------------------------------------------------------------------------


def strip_ansi(text: str) -> str:
    """Text without terminal escape sequences, lines as a terminal would leave them (``\\r``)."""
    lines = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in _ANSI.sub("", text).split("\n"))
    return "\n".join(lines)


def _joined(text: str | Sequence[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def split_outputs(
    outputs: Sequence[Mapping[str, Any]], name: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What a record keeps of a cell's outputs, and the values that the cell kept.

    What was printed stays, and text/plain, text/html and image/png of the rest. Widgets are dropped,
    and standard error: warnings name folders of the machine, and no page shows them.

    Raises RecordError where the cell failed, or kept one name twice.
    """
    kept: list[dict[str, Any]] = []
    values: dict[str, Any] = {}
    for output in outputs:
        kind = output["output_type"]
        if kind == "error":
            raise RecordError(
                f"cell {name!r} ended in {output['ename']}: {output['evalue']}; "
                "an error is never recorded"
            )
        if kind == "stream" and output["name"] == "stderr":
            continue
        if kind == "stream":
            text = strip_ansi(_joined(output["text"]))
            previous = kept[-1] if kept else {}
            if previous.get("output_type") == "stream" and previous["name"] == output["name"]:
                previous["text"] += text
            else:
                kept.append({"output_type": "stream", "name": output["name"], "text": text})
            continue
        bundle = output["data"]
        if VALUES_TYPE in bundle:
            more = json.loads(_joined(bundle[VALUES_TYPE]))
            if twice := sorted(set(values) & set(more)):
                raise RecordError(f"cell {name!r} keeps {', '.join(twice)} more than once")
            values.update(more)
            continue
        if any(mime.startswith("application/vnd.jupyter.widget-view") for mime in bundle):
            continue
        data = {mime: _joined(bundle[mime]) for mime in _KEPT_TYPES if mime in bundle}
        if data:
            kept.append({"output_type": "display_data", "data": data, "metadata": {}})
    return kept, values


# --- how a page shows them ------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """``12 seconds``, ``4 minutes``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} second{'' if round(seconds) <= 1 else 's'}"
    return f"{seconds / 60:.0f} minutes"


def origin(record: CellRecord) -> str:
    """One sentence: where, with what and when a cell was recorded, and how long it took."""
    software = [f"PyTorch {record.versions['torch']}"]
    if record.kind == "gpu" and record.versions.get("cuda"):
        software.append(f"CUDA {record.versions['cuda']}")
    return (
        f"Recorded on {record.device} with {', '.join(software)} "
        f"on {record.date[:10]}, commit {record.commit}, in {duration(record.seconds)}."
    )


_NEEDS = {"gpu": "needs a GPU", "long": "takes minutes"}
CHANGES = {  # what is said of a record that is no longer of the code as it is
    "cell": "The cell has changed since: an earlier version of it printed what is shown.",
    "code": "The package's code under this cell has changed since: this is a record of older code.",
}


def note_of(kind: str, record: CellRecord | None, changed: str | None = None) -> str:
    """The caption of a frame. ``changed`` is None, or a key of ``CHANGES``."""
    if record is None:
        return f"This cell {_NEEDS[kind]}. Nothing has been recorded for it yet."
    parts = [f"This cell {_NEEDS[kind]}.", origin(record)]
    return " ".join([*parts, *([CHANGES[changed]] if changed else [])])


def _output_html(output: Mapping[str, Any], alt: str | None) -> str:
    if output["output_type"] == "stream":
        return f"<pre>{html.escape(strip_ansi(_joined(output['text'])).rstrip())}</pre>"
    data = {mime: _joined(content) for mime, content in output["data"].items()}
    if "image/png" in data:
        text = alt or strip_ansi(data.get("text/plain", "")) or "Recorded figure"
        png = "".join(data["image/png"].split())
        return (
            f'<img src="data:image/png;base64,{html.escape(png)}" alt="{html.escape(text)}" '
            'style="max-width:100%;background:#fff">'
        )
    if "text/html" in data:
        return f"<div>{data['text/html']}</div>"
    return f"<pre>{html.escape(strip_ansi(data.get('text/plain', '')).rstrip())}</pre>"


def _output_text(output: Mapping[str, Any], alt: str | None) -> str:
    if output["output_type"] == "stream":
        return strip_ansi(_joined(output["text"])).rstrip()
    plain = strip_ansi(_joined(output["data"].get("text/plain", ""))).rstrip()
    return (alt or plain) if "image/png" in output["data"] else plain


def frame(
    kind: str, record: CellRecord | None, *, changed: str | None = None, alt: str | None = None
) -> dict[str, str]:
    """MIME bundle (text/html, text/plain) that stands in for the outputs of a recorded cell.

    Args:
        kind: ``gpu`` or ``long``.
        record: the cell's record, None when there is none.
        changed: ``cell`` or ``code`` where that has changed since; the frame says so.
        alt: alternative text for recorded images; by default their ``text/plain``.
    """
    note = note_of(kind, record, changed)
    outputs = record.outputs if record else []
    state = "missing" if record is None else "stale" if changed else "current"
    body = "\n".join(_output_html(output, alt) for output in outputs)
    markup = (
        f'<figure class="record record-{kind} record-{state}">\n{body}\n'
        f"<figcaption>{html.escape(note)}</figcaption>\n</figure>"
    )
    plain = "\n".join([note, *(_output_text(output, alt) for output in outputs)])
    return {"text/html": markup, "text/plain": plain}
