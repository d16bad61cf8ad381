"""Records of cells: what is kept, what is refused, and what a page shows in place of a run."""

import base64
import dataclasses
import json
import math

import pytest

from dlcourse.notebook import records
from dlcourse.notebook.records import CellRecord, RecordError

VERSIONS = {"python": "3.12.3", "torch": "2.11.0", "cuda": "13.0"}
PNG = base64.b64encode(b"\x89PNG fake").decode()


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def display(**data):
    return {"output_type": "display_data", "data": data, "metadata": {}}


def record(outputs=(), **changes):
    fields = {
        "kind": "gpu",
        "device": "NVIDIA H200",
        "versions": VERSIONS,
        "date": "2026-01-02",
        "commit": "abc1234",
        "seconds": 12.34,
        "peak_memory_mb": 900.5,
        "cell": "a" * 64,
        "code": "b" * 64,
        "outputs": list(outputs),
        "values": {},
    }
    return CellRecord(**{**fields, **changes})


# --- cells and keys -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags, kind", [(["gpu"], "gpu"), (["hide-input", "long"], "long"), ([], None), (["slow"], None)]
)
def test_a_cell_is_recorded_for_its_tag(tags, kind):
    assert records.kind_of({"metadata": {"tags": tags}}) == kind


def test_a_cell_without_metadata_is_not_recorded():
    assert records.kind_of({"cell_type": "code", "source": "1"}) is None


def test_a_key_names_chapter_section_and_cell():
    assert records.parse_key("119.1a.step-time") == ("119", "1a", "step-time")


@pytest.mark.parametrize("key", ["", "119.2", "119.2.", "119.2.a b", "a.2.x", "119.2.x.y", None, 7])
def test_what_is_no_key_is_refused_with_an_example(key):
    with pytest.raises(RecordError, match=r"such as '119\.2\.step-time', not"):
        records.parse_key(key)


def test_records_of_a_chapter_that_is_not_there_are_refused_with_those_that_are():
    with pytest.raises(RecordError, match="no chapter '7'; there are: 119, 120"):
        records.installed_records("7", "1")


def test_a_section_without_records_has_no_file():
    assert records.installed_records("119", "99") is None


# --- outputs --------------------------------------------------------------------------------------


def test_record_keeps_text_html_png_and_what_was_printed_only():
    outputs = [
        stream("a"),
        stream("\x1b[31mb\x1b[0m\n"),
        stream("warned\n", "stderr"),
        display(**{"text/plain": ["x", "y"], "image/svg+xml": "<svg/>"}),
        display(**{"application/vnd.jupyter.widget-view+json": {}, "text/plain": "Slider()"}),
        {**display(**{"text/plain": "42"}), "output_type": "execute_result", "execution_count": 7},
        display(**{"application/javascript": "alert(1)"}),
    ]
    kept, values = records.split_outputs(outputs, "a")
    assert kept == [
        stream("ab\n"),
        display(**{"text/plain": "xy"}),
        display(**{"text/plain": "42"}),
    ]
    assert values == {}


def test_values_are_taken_out_of_the_outputs():
    outputs = [
        display(**{records.VALUES_TYPE: '{"a": 1, "b": [NaN]}', "text/plain": "a, b"}),
        stream("1\n"),
        display(**{records.VALUES_TYPE: '{"c": "x"}', "text/plain": "c"}),
    ]
    kept, values = records.split_outputs(outputs, "a")
    assert kept == [stream("1\n")]
    assert values["a"] == 1 and values["c"] == "x" and math.isnan(values["b"][0])


def test_a_value_that_is_kept_twice_is_refused():
    twice = [display(**{records.VALUES_TYPE: '{"loss": 1}'})] * 2
    with pytest.raises(RecordError, match="'a' keeps loss more than once"):
        records.split_outputs(twice, "a")


def test_an_error_is_never_recorded():
    error = {"output_type": "error", "ename": "OutOfMemoryError", "evalue": "80 GB"}
    with pytest.raises(RecordError, match="'a' ended in OutOfMemoryError: 80 GB"):
        records.split_outputs([stream("1\n"), error], "a")


# --- the file -------------------------------------------------------------------------------------


def test_records_survive_their_file(tmp_path):
    values = {"loss": [1.5, None, True], "name": "Lion", "bad": math.inf}
    made = {"a": record([stream("1\n")], values=values), "b": record(kind="long")}
    records.write_records(tmp_path / "2_optimizers.json", made)
    assert records.read_records(tmp_path / "2_optimizers.json") == made


def test_not_a_number_survives_the_file(tmp_path):
    records.write_records(tmp_path / "x.json", {"a": record(values={"loss": math.nan})})
    assert math.isnan(records.read_records(tmp_path / "x.json")["a"].values["loss"])


def test_no_file_is_no_record(tmp_path):
    assert records.read_records(tmp_path / "none.json") == {}
    assert records.read_records(None) == {}


def test_records_above_200_kb_are_refused_with_their_sizes_and_the_file_left_alone(tmp_path):
    path = tmp_path / "x.json"
    records.write_records(path, {"a": record([stream("small\n")])})
    before = path.read_bytes()
    large = {"a": record(), "b": record([stream("x" * 210_000)])}
    with pytest.raises(RecordError, match=r"206 KB and may have 200 KB \(a 0 KB, b 205 KB\)"):
        records.write_records(path, large)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "slow"}, "gpu, long"),
        ({"device": ""}, "'device'"),
        ({"date": "yesterday"}, "YYYY-MM-DD"),
        ({"commit": None}, "'commit'"),
        ({"versions": {"python": "3"}}, "version of torch"),
        ({"cell": "12"}, "'cell' of a record is not a SHA-256"),
        ({"code": "z" * 64}, "'code' of a record is not a SHA-256"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_record_that_is_not_whole_is_named_with_its_file(tmp_path, change, message):
    path = tmp_path / "2_optimizers.json"
    path.write_text(json.dumps({"cells": {"a": dataclasses.asdict(record()) | change}}))
    with pytest.raises(RecordError, match=rf"2_optimizers\.json.*{message}"):
        records.read_records(path)


@pytest.mark.parametrize("text", ['{"cells": {"a"', "[]", '{"cells": []}', "{}", '{"cells": 3}'])
def test_what_is_no_file_of_records_is_named_with_the_remedy(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"x\.json is not a file of records.*dlcourse record"):
        records.read_records(path)


# --- what a page shows ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds, text",
    [(0.2, "1 second"), (12.4, "12 seconds"), (89, "89 seconds"), (91, "2 minutes")],
)
def test_a_time_is_said_in_words(seconds, text):
    assert records.duration(seconds) == text


def test_frame_names_device_versions_date_commit_and_time():
    bundle = records.frame("gpu", record([stream("1\n")]))
    for part in (
        *("NVIDIA H200", "PyTorch 2.11.0", "CUDA 13.0", "2026-01-02", "abc1234", "12 seconds"),
        "This cell needs a GPU.",
    ):
        assert part in bundle["text/html"] and part in bundle["text/plain"]
    opening = '<figure class="record record-gpu record-current">'
    assert bundle["text/html"].startswith(opening)
    assert "<pre>1</pre>" in bundle["text/html"] and bundle["text/plain"].endswith("\n1")
    assert "since" not in bundle["text/plain"]


def test_frame_of_a_long_cell_says_that_it_takes_minutes_and_no_cuda():
    bundle = records.frame("long", record(kind="long", device="EPYC, 2 cores", seconds=200))
    assert "This cell takes minutes. Recorded on EPYC, 2 cores" in bundle["text/plain"]
    assert "in 3 minutes." in bundle["text/plain"] and "CUDA" not in bundle["text/plain"]


@pytest.mark.parametrize(
    "changed, said", [("cell", "cell has changed since"), ("code", "record of older code")]
)
def test_frame_of_a_record_of_older_code_says_so_and_shows_it(changed, said):
    bundle = records.frame("gpu", record([stream("1\n")]), changed=changed)
    assert said in bundle["text/html"] and said in bundle["text/plain"]
    assert "record-stale" in bundle["text/html"] and "<pre>1</pre>" in bundle["text/html"]


def test_frame_without_a_record_says_so():
    bundle = records.frame("gpu", None)
    assert bundle["text/plain"] == (
        "This cell needs a GPU. Nothing has been recorded for it yet."
    )
    assert "record-missing" in bundle["text/html"] and "<pre>" not in bundle["text/html"]


def test_frame_escapes_text_and_drops_terminal_codes():
    outputs = [stream("\x1b[1m<b>&</b>\x1b[0m 10%\r 100%\n"), display(**{"text/plain": "<x>"})]
    html = records.frame("gpu", record(outputs))["text/html"]
    assert "<pre>&lt;b&gt;&amp;&lt;/b&gt;" not in html  # overwritten by the carriage return
    assert "<pre> 100%</pre>" in html and "<pre>&lt;x&gt;</pre>" in html


def test_frame_gives_images_the_alt_text_of_the_cell_or_their_plain_text():
    known = record([display(**{"image/png": PNG, "text/plain": '<Figure "1">'})])
    assert 'alt="&lt;Figure &quot;1&quot;&gt;"' in records.frame("gpu", known)["text/html"]
    told = records.frame("gpu", known, alt="A line that falls")
    assert f'src="data:image/png;base64,{PNG}" alt="A line that falls"' in told["text/html"]
    assert told["text/plain"].endswith("A line that falls")
