"""The papermill engine, as anyone would use it on a learner's notebook."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill as pm
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import dlcourse
from dlcourse.build import engine
from dlcourse.chapters import chapters
from dlcourse.notebook import records
from dlcourse.notebook.records import CellRecord

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def notebook(*cells):
    return new_notebook(cells=list(cells), metadata={"kernelspec": KERNEL})


def recorded_cell(source, key=None, tags=("gpu",)):
    about = {"dlcourse": {"record": key}} if key else {}
    return new_code_cell(source, metadata={"tags": list(tags), **about})


def execute(*cells, **options):
    given = {"engine_name": "dlcourse", "progress_bar": False, **options}
    return pm.execute_notebook(notebook(*cells), None, **given)


def installed():
    """Key and record of the first recorded cell that the package carries."""
    for number, name in chapters().items():
        for file in sorted((Path(dlcourse.__file__).parent / name / "records").glob("*.json")):
            for cell, record in records.read_records(file).items():
                return f"{number}.{file.stem.partition('_')[0]}.{cell}", record
    raise AssertionError("the package carries no record")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A learner's notebook, executed with papermill's own command in folders of its own."""
    folder = tmp_path_factory.mktemp("engine")
    (folder / "deep").mkdir()
    key, _ = installed()
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("size = 1", metadata={"tags": ["parameters"]}),
        new_code_cell("import os\nprint(size, os.environ['DLCOURSE_STATIC'], os.getcwd())"),
        recorded_cell(f"%%recorded {key}\n1 / 0", key),
        recorded_cell(f"%%recorded {key}\n1 / 0", key),  # duplicated by the learner,
        recorded_cell("1 / 0", key),  # and split
        recorded_cell("%%recorded 119.2.no-such-cell\n1 / 0", "119.2.no-such-cell", ["long"]),
        recorded_cell("%%recorded 7.1.a\n1 / 0", "7.1.a"),
        recorded_cell("1 / 0"),  # of the learner's own making
        new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}),
        new_code_cell("6 * 7"),
    ]
    nbformat.write(notebook(*cells), folder / "deep" / "in.ipynb")
    command = ["papermill", "--engine", "dlcourse", "deep/in.ipynb", "out.ipynb"]
    done = subprocess.run(
        [sys.executable, "-m", *command, "-p", "size", "5", "--cwd", "deep", "--log-output"],
        cwd=folder, env={**os.environ, "DLCOURSE_GPU": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = nbformat.read(folder / "out.ipynb", as_version=4)
    out.cells = [c for c in out.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    return out, folder


def shown(executed, index):
    (output,) = executed[0].cells[index].outputs
    return output.data


def test_kernel_gets_the_parameters_and_is_told_to_show_widgets_as_pictures(executed):
    out, folder = executed
    assert out.cells[2].outputs[0].text.split() == ["5", "1", str(folder / "deep")]


def test_a_recorded_cell_shows_the_packages_record_and_does_not_run_also_with_a_gpu(executed):
    _, record = installed()
    assert record.device in shown(executed, 3)["text/html"]
    assert shown(executed, 3) == records.frame("gpu", record)
    assert executed[0].cells[3].execution_count is None


def test_a_recorded_cell_that_was_duplicated_or_split_shows_the_record_in_each(executed):
    assert shown(executed, 4) == shown(executed, 5) == shown(executed, 3)


@pytest.mark.parametrize("index, needs", [(6, "takes minutes"), (7, "a GPU"), (8, "a GPU")])
def test_a_recorded_cell_without_a_record_says_so(executed, index, needs):
    assert needs in shown(executed, index)["text/plain"]
    assert "Nothing has been recorded for it yet" in shown(executed, index)["text/plain"]


def test_a_recorded_cell_that_was_not_run_is_skipped_by_nbval(executed):
    assert executed[0].cells[3].metadata.tags == ["gpu", "nbval-skip"]


def test_expected_error_is_shown_and_does_not_stop_the_notebook(executed):
    assert "ZeroDivisionError" in shown(executed, 9)["text/plain"]
    assert shown(executed, 10)["text/plain"] == "42"


def test_expected_error_becomes_an_error_output_again(executed):
    out = nbformat.from_dict(executed[0])
    engine.unfold_expected_errors(out)
    (error,) = out.cells[9].outputs
    assert (error.output_type, error.ename) == ("error", "ZeroDivisionError")
    nbformat.validate(out)


def test_unexpected_error_shows_its_traceback_and_fails():
    with pytest.raises(pm.PapermillExecutionError) as error:
        execute(new_code_cell("planted = {}['key']"), new_code_cell("1"))
    assert "KeyError: 'key'" in str(error.value) and "planted = {}" in str(error.value)


def test_a_recorded_cell_runs_where_it_is_asked_for_with_what_else_is_given():
    cell = recorded_cell("import os\nprint(os.environ['MINE'], os.environ['OMP_NUM_THREADS'])")
    out = execute(cell, run_recorded=True, environment={"MINE": "yes"}, threads=3)
    assert out.cells[0].outputs[0].text == "yes 3\n"
    assert out.cells[0].metadata.tags == ["gpu"]
    assert out.metadata.papermill.input_path is None


def test_cell_that_takes_too_long_is_stopped():
    from nbclient.exceptions import CellTimeoutError

    with pytest.raises(CellTimeoutError, match="time.sleep"):
        execute(new_code_cell("import time; time.sleep(60)"), execution_timeout=1)


def test_explore_in_a_kernel_without_front_end_does_not_block(monkeypatch):
    monkeypatch.delenv("DLCOURSE_STATIC", raising=False)  # the kernel inherits it

    code = (
        "import matplotlib.pyplot as plt\nfrom dlcourse.notebook import explore\n"
        "def draw(a):\n    fig, ax = plt.subplots()\n    ax.plot([a])\n    return fig\n"
        "explore(draw, {'a': [1, 2]}, name='x', alt='A point')"
    )
    out = execute(new_code_cell(code), engine_name="nbclient", execution_timeout=300)
    (output,) = out.cells[0].outputs
    assert "application/vnd.jupyter.widget-view+json" in output.data


def test_the_engine_loads_while_papermill_itself_is_being_imported():
    code = "import sys; sys.modules['papermill'] = None; import dlcourse.build.engine"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# --- without kernels ------------------------------------------------------------------------------


def record():
    return CellRecord(
        kind="gpu", device="NVIDIA H200", versions={"torch": "2.11"}, date="2026-01-02",
        commit="abc", seconds=1.0, peak_memory_mb=1.0, cell="a" * 64, code="b" * 64,
        outputs=[{"output_type": "display_data", "data": {"image/png": "AAAA"}, "metadata": {}}],
    )  # fmt: skip


def test_given_records_are_shown_in_place_of_the_packages():
    cell = recorded_cell("1", "119.2.a")
    engine.show_record(cell, {"119.2.a": record()}, {})
    assert "NVIDIA H200" in cell.outputs[0].data["text/plain"]
    engine.show_record(cell, {}, {})
    assert "Nothing has been recorded" in cell.outputs[0].data["text/plain"]
    assert cell.metadata.tags == ["gpu", "nbval-skip"]


def test_what_has_changed_and_the_alternative_text_are_shown():
    cell = recorded_cell("1", "119.2.a")
    cell.metadata["mystnb"] = {"image": {"alt": "A line that falls"}}
    engine.show_record(cell, {"119.2.a": record()}, {"119.2.a": "code"})
    html = cell.outputs[0].data["text/html"]
    assert "record of older code" in html and 'alt="A line that falls"' in html
