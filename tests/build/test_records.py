"""GPU records: what is kept, what is refused, and what a page shows where there is no GPU."""

import base64
import json

import pytest

from dlcourse.build import records
from dlcourse.build.records import CellRecord, GpuRecord, RecordError

VERSIONS = {"python": "3.12.3", "torch": "2.11.0", "cuda": "13.0"}
PNG = base64.b64encode(b"\x89PNG fake").decode()


def cell(source="x", name=None, tags=("gpu",), outputs=()):
    metadata = {"tags": list(tags)} | ({"name": name} if name is not None else {})
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": list(outputs)}


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def display(**data):
    return {"output_type": "display_data", "data": data, "metadata": {}}


def record(outputs=(), source="print(1)", name="a"):
    one = CellRecord(records.source_digest(source), list(outputs))
    return GpuRecord("NVIDIA H200", VERSIONS, "2026-01-02", "abc1234", {name: one})


def test_gpu_cells_are_found_by_name_in_order():
    notebook = {"cells": [cell(name="b"), cell(tags=()), cell(name="a")]}
    assert list(records.gpu_cells(notebook)) == ["b", "a"]


@pytest.mark.parametrize(
    "cells, message",
    [
        (
            [cell("step()\nmore()")],
            r"cell 0 \('step\(\)'\) is tagged gpu but has no name.*# %% tags",
        ),
        ([cell(name=" ")], "no name"),
        ([cell(name="a"), cell(name="a")], "taken by an earlier gpu cell"),
        ([{**cell(name="a"), "cell_type": "markdown"}], "not a code cell"),
    ],
)
def test_gpu_cells_that_cannot_be_named_are_refused(cells, message):
    with pytest.raises(RecordError, match=message):
        records.gpu_cells({"cells": cells})


def test_white_space_around_a_cell_does_not_make_its_record_stale():
    assert records.source_digest("\nx = 1\n\n") == records.source_digest("x = 1")
    assert records.source_digest("x = 1") != records.source_digest("x = 2")


def test_record_keeps_text_html_png_and_streams_only():
    outputs = [
        stream("a"),
        stream("\x1b[31mb\x1b[0m\n"),
        stream("warned\n", "stderr"),
        display(**{"text/plain": ["x", "y"], "image/svg+xml": "<svg/>"}),
        display(**{"application/vnd.jupyter.widget-view+json": {}, "text/plain": "Slider()"}),
        {**display(**{"text/plain": "42"}), "output_type": "execute_result", "execution_count": 7},
        display(**{"application/javascript": "alert(1)"}),
    ]
    assert records.recordable_outputs(outputs, "a") == [
        stream("ab\n"),
        stream("warned\n", "stderr"),
        display(**{"text/plain": "xy"}),
        display(**{"text/plain": "42"}),
    ]


def test_an_error_is_never_recorded():
    error = {
        "output_type": "error",
        "ename": "OutOfMemoryError",
        "evalue": "80 GB",
        "traceback": [],
    }
    notebook = {"cells": [cell(name="a", outputs=[error])]}
    with pytest.raises(RecordError, match="'a' ended in OutOfMemoryError: 80 GB"):
        records.make_record(notebook, device="G", versions=VERSIONS, date="2026-01-02", commit="c")


def test_record_survives_its_file(tmp_path):
    notebook = {"cells": [cell("print(1)", "a", outputs=[stream("1\n")])]}
    made = records.make_record(
        notebook, device="NVIDIA H200", versions=VERSIONS, date="2026-01-02", commit="abc1234"
    )
    path = records.record_path(tmp_path / "2_optimizers.ipynb")
    records.write_record(path, made)
    assert path.name == "2_optimizers.gpu.json"
    assert records.read_record(path) == made == record([stream("1\n")])
    assert json.loads(path.read_text())["cells"]["a"]["outputs"] == [stream("1\n")]


def test_no_file_is_no_record(tmp_path):
    assert records.read_record(tmp_path / "none.gpu.json") is None


def test_record_above_200_kb_is_refused_and_the_file_left_alone(tmp_path):
    path = tmp_path / "x.gpu.json"
    records.write_record(path, record([stream("small\n")]))
    before = path.read_bytes()
    with pytest.raises(RecordError, match="largest cell is 'a'"):
        records.write_record(path, record([stream("x" * 210_000)]))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.gpu.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"device": ""},
        {"date": "yesterday"},
        {"commit": None},
        {"versions": {"python": "3"}},
        {"cells": {"a": {"source_sha256": "12", "outputs": []}}},
        {"cells": {"a": {"outputs": []}}},
        {"cells": []},
        {"surprise": 1},
    ],
)
def test_a_file_that_is_no_record_is_named(tmp_path, change):
    path = tmp_path / "x.gpu.json"
    path.write_text(json.dumps(json.loads(records.dumps(record())) | change))
    with pytest.raises(RecordError, match="x.gpu.json"):
        records.read_record(path)


def test_half_a_file_is_no_record(tmp_path):
    path = tmp_path / "x.gpu.json"
    path.write_text(records.dumps(record())[:50])
    with pytest.raises(RecordError, match="record it again"):
        records.read_record(path)


def test_frame_names_device_versions_date_and_commit():
    bundle = records.frame(record([stream("1\n")]), "a", "print(1)")
    for part in ("NVIDIA H200", "PyTorch 2.11.0", "CUDA 13.0", "2026-01-02", "abc1234"):
        assert part in bundle["text/html"] and part in bundle["text/plain"]
    assert bundle["text/html"].startswith('<figure class="gpu-record gpu-record-recorded">')
    assert "<pre>1</pre>" in bundle["text/html"] and bundle["text/plain"].endswith("\n1")
    assert "earlier version" not in bundle["text/plain"]


def test_frame_of_a_changed_cell_says_that_it_is_of_an_earlier_version():
    bundle = records.frame(record([stream("1\n")]), "a", "print(2)")
    assert "earlier version" in bundle["text/html"] and "gpu-record-stale" in bundle["text/html"]
    assert "<pre>1</pre>" in bundle["text/html"]


@pytest.mark.parametrize("known", [None, record(name="other")])
def test_frame_without_a_record_says_so(known):
    bundle = records.frame(known, "a", "print(1)")
    assert "nothing has been recorded" in bundle["text/plain"]
    assert "gpu-record-missing" in bundle["text/html"] and "<pre>" not in bundle["text/html"]


def test_frame_escapes_text_and_drops_terminal_codes():
    outputs = [stream("\x1b[1m<b>&</b>\x1b[0m 10%\r 100%\n"), display(**{"text/plain": "<x>"})]
    html = records.frame(record(outputs), "a", "print(1)")["text/html"]
    assert "<pre>&lt;b&gt;&amp;&lt;/b&gt;" not in html  # overwritten by the carriage return
    assert "<pre> 100%</pre>" in html and "<pre>&lt;x&gt;</pre>" in html


def test_frame_gives_images_the_alt_text_of_the_cell_or_their_plain_text():
    known = record([display(**{"image/png": PNG, "text/plain": '<Figure "1">'})])
    assert 'alt="&lt;Figure &quot;1&quot;&gt;"' in records.frame(known, "a", "s")["text/html"]
    told = records.frame(known, "a", "s", alt="A line that falls")
    assert f'src="data:image/png;base64,{PNG}" alt="A line that falls"' in told["text/html"]
    assert told["text/plain"].endswith("A line that falls")
