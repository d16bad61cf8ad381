"""Executed notebooks and what was measured of them, as files."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dlcourse.build import results
from dlcourse.build.worker import Outcome
from dlcourse.files import TEMPORARY_SUFFIX

SOURCE = Path("chapters/1_toy/1_page.py")


def outcome(result="ok", notebook=None, **measured):
    notebook = notebook or new_notebook(cells=[new_markdown_cell("# Title\nText.")])
    text = nbformat.writes(notebook) if result == "ok" else None
    return Outcome(SOURCE, result, 12.345, 6.789, 123.456, notebook=text, **measured)


def stored(root):
    return nbformat.read(results.executed_path(root, SOURCE), as_version=4)


# --- the summary ----------------------------------------------------------------------------------


def test_an_entry_has_what_was_measured(tmp_path):
    results.store(tmp_path, outcome(), key="k")
    (entry,) = results.read_summary(tmp_path).values()
    assert {name: entry[name] for name in ("result", "key", "error")} == {
        "result": "ok", "key": "k", "error": None,
    }  # fmt: skip
    assert [entry[name] for name in ("seconds", "cpu_seconds", "peak_memory_mb")] == [
        *(12.35, 6.79, 123.5)
    ]
    assert "core" in entry["device"] and entry["date"].endswith("+00:00")


def test_an_entry_leaves_the_others_and_takes_its_own_place(tmp_path):
    results.update_summary(tmp_path, Path("a.py"), {"n": 1})
    results.update_summary(tmp_path, Path("b.py"), {"n": 2})
    results.update_summary(tmp_path, Path("a.py"), {"n": 3})
    assert results.read_summary(tmp_path) == {"a.py": {"n": 3}, "b.py": {"n": 2}}
    results.update_summary(tmp_path, Path("a.py"), None)
    assert results.read_summary(tmp_path) == {"b.py": {"n": 2}}


def test_a_new_run_is_no_longer_proved(tmp_path):
    results.update_summary(tmp_path, SOURCE, {"key": "k", "proved": "k"})
    results.store(tmp_path, outcome(), key="k")
    assert "proved" not in results.read_summary(tmp_path)[SOURCE.as_posix()]


@pytest.mark.parametrize("text", ['{"half": ', "[]", "3"])
def test_a_broken_summary_is_none(tmp_path, text):
    (tmp_path / results.SUMMARY).parent.mkdir(parents=True)
    (tmp_path / results.SUMMARY).write_text(text)
    assert results.read_summary(tmp_path) == {}


@pytest.mark.parametrize(
    "entry, said",
    [
        ({"cpu_seconds": 30.0, "peak_memory_mb": 1500.0}, []),
        ({"cpu_seconds": 45.4}, ["45 CPU seconds (budget 30)"]),
        (
            {"cpu_seconds": 31, "peak_memory_mb": 2345.6},
            ["31 CPU seconds (budget 30)", "2,346 MB (budget 1,500)"],
        ),
        ({}, []),
    ],
)
def test_what_is_over_the_budget_is_said_in_words(entry, said):
    assert results.over_budget(entry) == said


# --- the executed notebook ------------------------------------------------------------------------


def test_the_measured_line_stands_below_the_first_title(tmp_path):
    cells = [new_markdown_cell("Before."), new_markdown_cell("(a)=\n# Title\nText."), "# B"]
    cells = [c if not isinstance(c, str) else new_markdown_cell(c) for c in cells]
    results.store(tmp_path, outcome(notebook=new_notebook(cells=cells)), key="k")
    before, title, last = (cell.source for cell in stored(tmp_path).cells)
    assert (before, last) == ("Before.", "# B")
    assert title.split("\n")[:3] == ["(a)=", "# Title", ""] and title.endswith("</p>\n\nText.")
    assert "7 seconds of one core, 123 MB of memory at the peak, on " in title


def test_a_notebook_without_a_title_has_no_measured_line(tmp_path):
    results.store(tmp_path, outcome(notebook=new_notebook(cells=[new_code_cell("1")])), key="k")
    assert [cell.source for cell in stored(tmp_path).cells] == ["1"]


def test_equal_runs_give_equal_files(tmp_path):
    texts = []
    for second in (1, 2):
        cell = new_code_cell("1", metadata={"tags": [], "papermill": {"duration": second}})
        error = new_output(
            "display_data", data={"text/plain": "E"},
            metadata={"dlcourse": {"error": {
                "output_type": "error", "ename": "E", "evalue": "", "traceback": [],
            }}},
        )  # fmt: skip
        cell.outputs = [error]
        cell.metadata["execution"] = {"iopub.status.busy": str(second)}
        notebook = new_notebook(cells=[cell], metadata={"papermill": {"duration": second}})
        results.store(tmp_path, outcome(notebook=notebook), key="k")
        texts.append(results.executed_path(tmp_path, SOURCE).read_text())
    assert texts[0] == texts[1]
    assert stored(tmp_path).cells[0].outputs[0].output_type == "error"
    assert stored(tmp_path).cells[0].metadata == {}


def test_injected_parameters_are_not_shown_on_the_page(tmp_path):
    cell = new_code_cell("size = 5", metadata={"tags": ["injected-parameters"]})
    results.store(tmp_path, outcome(notebook=new_notebook(cells=[cell])), key="k")
    assert "remove-cell" in stored(tmp_path).cells[0].metadata.tags


def test_a_notebook_that_failed_has_no_executed_copy(tmp_path):
    results.store(tmp_path, outcome(), key="k")
    results.store(tmp_path, outcome("failed", error="KeyError: 'x'"), key="l")
    assert not results.executed_path(tmp_path, SOURCE).exists()
    (entry,) = results.read_summary(tmp_path).values()
    assert (entry["result"], entry["error"]) == ("failed", "KeyError: 'x'")


# --- what is left over ----------------------------------------------------------------------------


def test_copies_of_deleted_chapters_are_pruned(checkout):
    root = checkout.root
    stays = checkout.add("1_page", "").relative_to(root)
    gone = stays.with_stem("2_gone")
    for source in (stays, gone):
        results.executed_path(root, source).parent.mkdir(parents=True, exist_ok=True)
        results.executed_path(root, source).write_text("{}")
        results.update_summary(root, source, {"result": "ok"})
    results.update_summary(root, stays.with_stem("3_only_in_the_summary"), {})
    assert results.prune(root) == [gone]
    assert not results.executed_path(root, gone).exists()
    assert results.executed_path(root, stays).exists()
    assert list(results.read_summary(root)) == [stays.as_posix()]


def test_what_a_killed_run_left_half_written_is_removed_and_a_running_ones_is_not(checkout):
    names = ("old", "new")
    old, new = (
        checkout.write(f"_build/executed/chapters/.{name}.ipynb.abc{TEMPORARY_SUFFIX}", "half")
        for name in names
    )
    os.utime(old, (0, 0))
    results.prune(checkout.root)
    assert not old.exists() and new.exists()


def test_an_executed_copy_lies_by_its_sources_path(tmp_path):
    path = results.executed_path(tmp_path, SOURCE)
    assert path == tmp_path / "_build/executed/chapters/1_toy/1_page.ipynb"


def test_the_summary_is_readable_text(tmp_path):
    results.update_summary(tmp_path, SOURCE, {"b": 1, "a": 2})
    text = (tmp_path / results.SUMMARY).read_text()
    assert text.index('"a"') < text.index('"b"') and text.endswith("}\n")
    assert json.loads(text) == {SOURCE.as_posix(): {"a": 2, "b": 1}}
