"""The learner's form of a gpu cell: passed over without a GPU, run with one, and told back."""

import sys
import types

import pytest

from dlcourse.build import records
from dlcourse.build.guard import GuardError, guarded, unguarded

SOURCE = 'size = 3\n\nfor i in range(2):\n    found.append(f"{size} " "x")\n\nprint(found)'


def run(source, monkeypatch, *, gpu):
    cuda = types.SimpleNamespace(is_available=lambda: gpu)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    found = []
    exec(source, {"found": found})
    return found


def test_without_a_gpu_the_cell_says_so_and_does_nothing(monkeypatch, capsys):
    assert run(guarded(SOURCE), monkeypatch, gpu=False) == []
    assert "this cell needs a GPU" in capsys.readouterr().out


def test_with_a_gpu_the_cell_does_what_it_did(monkeypatch, capsys):
    assert run(guarded(SOURCE), monkeypatch, gpu=True) == ["3 x", "3 x"]
    assert capsys.readouterr().out == "['3 x', '3 x']\n"


def test_a_record_holds_for_both_forms_and_not_for_an_edited_one():
    digest = records.source_digest(SOURCE)
    assert unguarded(guarded(SOURCE)) == SOURCE
    assert records.source_digest(guarded(SOURCE)) == digest
    assert records.source_digest(guarded(SOURCE).replace("size = 3", "size = 4")) != digest


def test_a_guarded_cell_shows_its_record_as_up_to_date():
    output = {"output_type": "stream", "name": "stdout", "text": "['3 x']\n"}
    cells = {"big": records.CellRecord(records.source_digest(SOURCE), [output])}
    record = records.GpuRecord("H200", {"torch": "2.11"}, "2026-01-02", "abc1234", cells)
    shown = records.frame(record, "big", guarded(SOURCE))["text/html"]
    assert "gpu-record-recorded" in shown and "3 x" in shown
    edited = records.frame(record, "big", guarded(SOURCE).replace("size = 3", "size = 4"))
    assert "gpu-record-stale" in edited["text/html"]


def test_an_ordinary_cell_is_left_as_it_is():
    assert unguarded("    x = 1") == "    x = 1"


@pytest.mark.parametrize(
    "source, said",
    [
        ("%%time\nx = 1", "not plain Python"),
        ("", "not plain Python"),
        ('text = """a\nb"""', "string over several lines"),
        ("x = 1\n  \ny = 2", "nothing but blanks"),
        ("x = 1\nx", "bare value"),
    ],
)
def test_what_would_not_mean_the_same_is_refused(source, said):
    with pytest.raises(GuardError, match=said):
        guarded(source)
