"""GPU records: what the gpu cells of a notebook printed when they last ran on a GPU.

A record is one JSON file beside its source, ``<stem>.gpu.json``, written only by a run on a GPU.
Where there is no GPU, the engine shows a recorded cell's outputs in a frame that names device,
versions, date and commit, and says when the cell has changed since.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date as calendar_date
from pathlib import Path
from typing import Any

from dlcourse.files import write_atomic
from dlcourse.build.guard import unguarded

GPU_TAG = "gpu"
SIZE_LIMIT = 200 * 1024  # bytes of one record file
_KEPT_TYPES = ("text/plain", "text/html", "image/png")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


class RecordError(ValueError):
    """A record, or a gpu cell that should be recorded, is not as it must be."""


@dataclass(frozen=True)
class CellRecord:
    """One cell: the SHA-256 of the source that ran, and its outputs in nbformat's form."""

    source_sha256: str
    outputs: list[dict[str, Any]]


@dataclass(frozen=True)
class GpuRecord:
    """All gpu cells of one notebook, recorded in one run."""

    device: str
    versions: dict[str, str]
    date: str
    commit: str
    cells: dict[str, CellRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = {"device": self.device, "date": self.date, "commit": self.commit}
        for name, text in texts.items():
            if not isinstance(text, str) or not text.strip():
                raise RecordError(f"a GPU record needs a non-empty {name!r}, not {text!r}")
        try:
            calendar_date.fromisoformat(self.date[:10])
        except ValueError:
            raise RecordError(f"a GPU record's date is YYYY-MM-DD, not {self.date!r}") from None
        if not self.versions.get("torch"):
            raise RecordError("a GPU record must name the version of torch under 'versions'")
        for name, cell in self.cells.items():
            if not re.fullmatch(r"[0-9a-f]{64}", cell.source_sha256):
                raise RecordError(f"cell {name!r}: source_sha256 is not a SHA-256 in hexadecimal")


def record_path(source: str | Path) -> Path:
    """``chapters/x/2_optimizers.py`` (or ``.ipynb``) → ``chapters/x/2_optimizers.gpu.json``."""
    source = Path(source)
    return source.with_name(source.stem + ".gpu.json")


def source_digest(source: str) -> str:
    """SHA-256 of a cell's source. White space around it does not count, nor a learner's guard."""
    return hashlib.sha256(unguarded(source).strip().encode("utf8")).hexdigest()


def has_tag(cell: Mapping[str, Any], tag: str) -> bool:
    """Whether a cell carries ``tag``."""
    return tag in cell.get("metadata", {}).get("tags", [])


def gpu_cells(notebook: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The cells tagged ``gpu``, by their ``name`` metadata, in order.

    Raises RecordError when such a cell is not code, has no name, or shares its name with another.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for index, cell in enumerate(notebook["cells"]):
        if not has_tag(cell, GPU_TAG):
            continue
        first_line = (cell["source"].strip().splitlines() or [""])[0]
        where = f"cell {index} ({first_line!r}) is tagged gpu"
        if cell["cell_type"] != "code":
            raise RecordError(f"{where} but is not a code cell; remove the tag")
        name = cell["metadata"].get("name")
        if not isinstance(name, str) or not name.strip():
            raise RecordError(
                f"{where} but has no name, which its record needs; "
                'begin the cell with: # %% tags=["gpu"] name="a_name"'
            )
        if name in found:
            raise RecordError(f"{where} and its name {name!r} is taken by an earlier gpu cell")
        found[name] = cell
    return found


def strip_ansi(text: str) -> str:
    """Text without terminal escape sequences, lines as a terminal would leave them (``\\r``)."""
    lines = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in _ANSI.sub("", text).split("\n"))
    return "\n".join(lines)


def _joined(text: str | Sequence[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def recordable_outputs(outputs: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Outputs as a record keeps them: streams, and text/plain, text/html, image/png of the rest.

    Widget views and other types are dropped. Raises RecordError on an error output.
    """
    kept: list[dict[str, Any]] = []
    for output in outputs:
        kind = output["output_type"]
        if kind == "error":
            raise RecordError(
                f"gpu cell {name!r} ended in {output['ename']}: {output['evalue']}; "
                "an error is never recorded"
            )
        if kind == "stream":
            text = strip_ansi(_joined(output["text"]))
            previous = kept[-1] if kept else {}
            if previous.get("output_type") == "stream" and previous["name"] == output["name"]:
                previous["text"] += text
            else:
                kept.append({"output_type": "stream", "name": output["name"], "text": text})
            continue
        bundle = output["data"]
        if any(mime.startswith("application/vnd.jupyter.widget-view") for mime in bundle):
            continue
        data = {mime: _joined(bundle[mime]) for mime in _KEPT_TYPES if mime in bundle}
        if data:
            kept.append({"output_type": "display_data", "data": data, "metadata": {}})
    return kept


def make_record(
    notebook: Mapping[str, Any], *, device: str, versions: dict[str, str], date: str, commit: str
) -> GpuRecord:
    """The record of an executed notebook's gpu cells. Raises RecordError if one failed."""
    cells = {
        name: CellRecord(
            source_digest(cell["source"]), recordable_outputs(cell.get("outputs", []), name)
        )
        for name, cell in gpu_cells(notebook).items()
    }
    return GpuRecord(device, versions, date, commit, cells)


def dumps(record: GpuRecord) -> str:
    """The JSON text of a record. Raises RecordError above 200 KB."""
    text = json.dumps(asdict(record), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    size = len(text.encode("utf8"))
    if size > SIZE_LIMIT:
        largest = max(record.cells, key=lambda name: len(json.dumps(record.cells[name].outputs)))
        raise RecordError(
            f"the GPU record has {size // 1024} KB and may have {SIZE_LIMIT // 1024} KB; "
            f"the largest cell is {largest!r}: print less, or make its figures smaller"
        )
    return text


def write_record(path: str | Path, record: GpuRecord) -> None:
    """Write a record atomically. Raises RecordError above 200 KB."""
    write_atomic(path, dumps(record))


def read_record(path: str | Path) -> GpuRecord | None:
    """The record at ``path``; None when there is no such file. Raises RecordError if invalid."""
    path = Path(path)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf8"))
        content["cells"] = {name: CellRecord(**c) for name, c in content["cells"].items()}
        return GpuRecord(**content)
    except RecordError as error:
        raise RecordError(f"{path.name}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(
            f"{path.name} is not a GPU record ({error}); record it again on a GPU: "
            "dlcourse run --record"
        ) from error


def _origin(record: GpuRecord) -> str:
    software = [f"PyTorch {record.versions['torch']}"]
    if record.versions.get("cuda"):
        software.append(f"CUDA {record.versions['cuda']}")
    return (
        f"Recorded on {record.device} with {', '.join(software)} "
        f"on {record.date[:10]}, commit {record.commit}."
    )


def _note(record: GpuRecord | None, name: str, source: str) -> tuple[str, CellRecord | None]:
    """The caption of a frame, and the recorded cell that it shows (None when there is none)."""
    cell = record.cells.get(name) if record else None
    if record is None or cell is None:
        return (
            "This cell needs a GPU. There was none when this page was built, "
            "and nothing has been recorded for it yet."
        ), None
    note = "This cell needs a GPU and was not run when this page was built. " + _origin(record)
    if cell.source_sha256 != source_digest(source):
        note += (
            " The cell has changed since: what is shown was printed by an earlier version of it."
        )
    return note, cell


def _output_html(output: Mapping[str, Any], alt: str | None) -> str:
    if output["output_type"] == "stream":
        return f"<pre>{html.escape(strip_ansi(_joined(output['text'])).rstrip())}</pre>"
    data = {mime: _joined(content) for mime, content in output["data"].items()}
    if "image/png" in data:
        text = alt or strip_ansi(data.get("text/plain", "")) or "Figure recorded on a GPU"
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
    record: GpuRecord | None, name: str, source: str, alt: str | None = None
) -> dict[str, str]:
    """MIME bundle (text/html, text/plain) that stands in for a gpu cell's outputs.

    Args:
        record: the notebook's record, None when there is none.
        name: the cell's name in the record.
        source: the cell's source now; the frame says so when the record is of another one.
        alt: alternative text for recorded images; by default their ``text/plain``.
    """
    note, cell = _note(record, name, source)
    outputs = cell.outputs if cell else []
    state = "missing" if cell is None else "recorded"
    if cell is not None and cell.source_sha256 != source_digest(source):
        state = "stale"
    body = "\n".join(_output_html(output, alt) for output in outputs)
    markup = (
        f'<figure class="gpu-record gpu-record-{state}">\n{body}\n'
        f"<figcaption>{html.escape(note)}</figcaption>\n</figure>"
    )
    plain = "\n".join([note, *(_output_text(output, alt) for output in outputs)])
    return {"text/html": markup, "text/plain": plain}
