"""The papermill engine, as anyone would use it: through papermill's own command."""

import os
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dlcourse.build import engine, records

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def notebook(*cells):
    return new_notebook(cells=list(cells), metadata={"kernelspec": KERNEL})


def gpu_cell(source, name="big"):
    return new_code_cell(source, metadata={"tags": ["gpu"], "name": name})


def papermill(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "papermill", "--engine", "dlcourse", *arguments],
        cwd=folder,
        env={**os.environ, "DLCOURSE_GPU": "0", **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A notebook beside its record, executed by path relative to another folder, with a cwd."""
    folder = tmp_path_factory.mktemp("engine")
    (folder / "deep").mkdir()
    nbformat.write(
        notebook(
            new_markdown_cell("# Title"),
            new_code_cell("import os\nprint(os.environ['DLCOURSE_STATIC'], os.getcwd())"),
            gpu_cell("1 / 0"),
            new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}),
            new_code_cell("6 * 7"),
        ),
        folder / "deep" / "in.ipynb",
    )
    outputs = [{"output_type": "stream", "name": "stdout", "text": "8 TB/s\n"}]
    cells = {"big": records.CellRecord(records.source_digest("1 / 0"), outputs)}
    record = records.GpuRecord("NVIDIA H200", {"torch": "2.11"}, "2026-01-02", "abc", cells)
    records.write_record(folder / "deep" / "in.gpu.json", record)
    done = papermill(folder, "deep/in.ipynb", "out.ipynb", "--cwd", "deep", "--log-output")
    assert done.returncode == 0, done.stderr
    return nbformat.read(folder / "out.ipynb", as_version=4), folder


def test_kernel_is_told_to_show_widgets_as_pictures(executed):
    out, folder = executed
    assert out.cells[1].outputs[0].text.split() == ["1", str(folder / "deep")]


def test_gpu_cell_shows_its_record_and_does_not_run(executed):
    (output,) = executed[0].cells[2].outputs
    assert (
        "NVIDIA H200" in output.data["text/html"]
        and "<pre>8 TB/s</pre>" in output.data["text/html"]
    )
    assert "8 TB/s" in output.data["text/plain"]
    assert executed[0].cells[2].execution_count is None


def test_gpu_cell_that_was_not_run_is_skipped_by_nbval(executed):
    assert executed[0].cells[2].metadata.tags == ["gpu", "nbval-skip"]


def test_expected_error_is_shown_and_does_not_stop_the_notebook(executed):
    assert "ZeroDivisionError" in executed[0].cells[3].outputs[0].data["text/plain"]
    assert executed[0].cells[4].outputs[0].data["text/plain"] == "42"


def test_expected_error_becomes_an_error_output_again(executed):
    out = nbformat.from_dict(executed[0])
    engine.unfold_expected_errors(out)
    (error,) = out.cells[3].outputs
    assert (error.output_type, error.ename) == ("error", "ZeroDivisionError")
    nbformat.validate(out)


def test_unexpected_error_shows_its_traceback_and_fails(tmp_path):
    nbformat.write(notebook(new_code_cell("planted = {}['key']")), tmp_path / "in.ipynb")
    done = papermill(tmp_path, "in.ipynb", "out.ipynb")
    assert done.returncode != 0
    assert "KeyError: 'key'" in done.stderr and "planted = {}" in done.stderr


def test_gpu_cell_runs_where_there_is_a_gpu_also_of_a_notebook_object(monkeypatch):
    import papermill as pm

    monkeypatch.setenv("DLCOURSE_GPU", "1")
    given = notebook(gpu_cell("40 + 2"))
    out = pm.execute_notebook(given, None, engine_name="dlcourse", progress_bar=False)
    assert out.cells[0].outputs[0].data["text/plain"] == "42"
    assert out.cells[0].metadata.tags == ["gpu"]
    assert out.metadata.papermill.input_path is None


def test_gpu_cell_without_a_name_is_refused_before_anything_runs(tmp_path, monkeypatch):
    import papermill as pm

    flag = tmp_path / "ran"
    cells = [
        new_code_cell(f"open({str(flag)!r}, 'w')"),
        new_code_cell("x", metadata={"tags": ["gpu"]}),
    ]
    with pytest.raises(records.RecordError, match="name its|has no name"):
        pm.execute_notebook(notebook(*cells), None, engine_name="dlcourse", progress_bar=False)
    assert not flag.exists()


def test_cell_that_takes_too_long_is_stopped():
    import papermill as pm
    from nbclient.exceptions import CellTimeoutError

    with pytest.raises(CellTimeoutError, match="time.sleep"):
        pm.execute_notebook(
            notebook(new_code_cell("import time; time.sleep(60)")),
            None, engine_name="dlcourse", progress_bar=False, execution_timeout=1,
        )  # fmt: skip


def test_explore_in_a_kernel_without_front_end_does_not_block(monkeypatch):
    import papermill as pm

    monkeypatch.delenv("DLCOURSE_STATIC", raising=False)  # the kernel inherits it

    code = (
        "import matplotlib.pyplot as plt\nfrom dlcourse.notebook import explore\n"
        "def draw(a):\n    fig, ax = plt.subplots()\n    ax.plot([a])\n    return fig\n"
        "explore(draw, {'a': [1, 2]}, name='x', alt='A point')"
    )
    out = pm.execute_notebook(
        notebook(new_code_cell(code)), None, engine_name="nbclient", progress_bar=False,
        execution_timeout=60,
    )  # fmt: skip
    (output,) = out.cells[0].outputs
    assert "application/vnd.jupyter.widget-view+json" in output.data


@pytest.mark.parametrize("first", ["papermill", "dlcourse.build.engine"])
def test_engine_is_registered_whichever_is_imported_first(first):
    code = (
        f"import {first}\nfrom papermill.engines import papermill_engines as e\n"
        "from dlcourse.build.engine import CourseEngine\n"
        "assert e.get_engine('dlcourse') is CourseEngine"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("given", ["-", "https://example.org/x.ipynb", "{}", None, {"cells": []}])
def test_input_that_is_no_file_has_no_record(given):
    assert engine.find_record(given) is None


def test_forced_gpu_must_be_0_or_1(monkeypatch):
    monkeypatch.setenv("DLCOURSE_GPU", "yes")
    with pytest.raises(ValueError, match="0 or 1"):
        engine.gpu_available()
