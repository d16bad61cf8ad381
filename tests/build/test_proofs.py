"""A notebook that has passed nbval is not executed a second time while nothing changes."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dlcourse.build import results

# In place of nbval: a test for each code cell, which fails where the cell says so. No kernels.
CELLS = """
import json, pytest

class Notebook(pytest.File):
    def collect(self):
        cells = json.loads(self.path.read_text())["cells"]
        for number, cell in enumerate(c for c in cells if c["cell_type"] == "code"):
            item = Cell.from_parent(self, name=f"Cell {number}")
            item.source = "".join(cell["source"])
            yield item

class Cell(pytest.Item):
    def runtest(self):
        if self.source == "skip":
            pytest.skip()
        assert self.source != "fail"

    def teardown(self):
        assert self.source != "fail at the end"

def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".ipynb":
        return Notebook.from_parent(parent, path=file_path)
"""
PAGE = Path("chapters/1_toy_chapter/1_page.py")
OTHER = PAGE.with_stem("2_other")


class Proving:
    """A checkout with executed notebooks, and pytest in it."""

    def __init__(self, checkout):
        self.checkout, self.root = checkout, checkout.root
        checkout.write("conftest.py", CELLS)
        checkout.write("pytest.ini", "[pytest]\n")

    def execute(self, *cells, source=PAGE, key="k" * 64):
        """What an execution leaves: the notebook and its entry."""
        self.checkout.write(source.as_posix(), "")
        path = results.executed_path(self.root, source)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = [new_code_cell(c) if isinstance(c, str) else c for c in cells]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(new_notebook(cells=made, metadata={"kernelspec": kernel}), path)
        results.update_summary(self.root, source, {"result": "ok", "key": key})

    def pytest(self, *arguments, plugins=()):
        """How the cells came out, as pytest's closing line says it."""
        loaded = [f"-p{name}" for name in ("dlcourse.build.proofs", "no:cacheprovider", *plugins)]
        # The plugins that happen to be installed take seconds to load, and none is needed.
        environment = self.checkout.environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *loaded, "_build/executed", *arguments],
            cwd=self.root, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert not done.stderr, done.stderr
        return done.stdout.strip().splitlines()[-1].partition(" in ")[0].strip("= ")

    def proved(self, source=PAGE):
        entry = results.read_summary(self.root)[source.as_posix()]
        return entry.get("proved") == entry["key"]


@pytest.fixture
def proving(checkout):
    return Proving(checkout)


def test_what_has_passed_is_not_collected_again_until_it_is_executed_anew(proving):
    proving.execute("1", "skip", "3")
    assert proving.pytest() == "2 passed, 1 skipped"
    assert proving.proved()
    assert proving.pytest() == "no tests ran"
    proving.execute("1", "skip", "3")
    assert not proving.proved()
    assert proving.pytest() == "2 passed, 1 skipped"


def test_a_cell_that_fails_after_it_was_run_does_not_prove(proving):
    proving.execute("1", "fail at the end")
    assert proving.pytest() == "2 passed, 1 error"
    assert not proving.proved()


def test_a_cell_that_fails_does_not_prove_and_the_other_notebooks_are_proved(proving):
    proving.execute("1", "fail", "3")
    proving.execute("1", source=OTHER)
    assert proving.pytest() == "1 failed, 3 passed"
    assert not proving.proved() and proving.proved(OTHER)
    assert proving.pytest() == "1 failed, 2 passed"


@pytest.mark.parametrize(
    "arguments, came_out",
    [
        (("-k", "0 or 2"), "2 passed, 1 deselected"),
        (("--deselect", "_build/executed/chapters/1_toy_chapter/1_page.ipynb::Cell 2"),
         "2 passed, 1 deselected"),
        (("--maxfail", "1", "fails_first"), "1 failed"),
        (("--collect-only",), "3 tests collected"),
    ],
)  # fmt: skip
def test_a_notebook_of_which_a_cell_was_not_run_is_not_proved(proving, arguments, came_out):
    proving.execute("1", "2", "3")
    if "fails_first" in arguments:
        proving.execute("fail", source=PAGE.with_stem("0_first"))
        arguments = arguments[:-1]
    assert proving.pytest(*arguments) == came_out
    assert not proving.proved()


def test_notebooks_are_proved_on_several_workers_each_whole_on_one(proving):
    proving.execute("1", "2", "3")
    proving.execute("1", "2", source=OTHER)
    proving.execute("1", "fail", source=PAGE.with_stem("3_bad"))
    workers = ("-n", "2", "--dist", "loadfile")
    assert proving.pytest(*workers, plugins=["xdist"]) == "1 failed, 6 passed"
    assert proving.proved() and proving.proved(OTHER)
    assert not proving.proved(PAGE.with_stem("3_bad"))
    assert proving.pytest(*workers, plugins=["xdist"]) == "1 failed, 1 passed"


def test_a_notebook_that_was_executed_anew_while_it_was_tested_is_not_proved(proving):
    proving.execute("1", "2")
    proving.checkout.write("conftest.py", CELLS.replace("        if self.source ==", '''\
        if self.source == "2":
            import json
            path = self.config.rootpath / "_build/executed/summary.json"
            path.write_text(path.read_text().replace("k" * 64, "l" * 64))
        if self.source ==''', 1))  # fmt: skip
    assert proving.pytest() == "2 passed"
    assert not proving.proved()


def test_a_notebook_without_a_run_and_other_tests_are_left_alone(proving):
    proving.execute("1")
    results.update_summary(proving.root, PAGE, None)
    proving.checkout.write("tests/test_it.py", "def test_it():\n    pass\n")
    for _ in range(2):
        assert proving.pytest("tests") == "2 passed"
    assert results.read_summary(proving.root) == {}


def test_nbval_itself_proves_in_the_courses_environment(proving):
    figure = new_code_cell(
        "import os\nprint(os.environ['MPLBACKEND'][:19], os.environ['DLCOURSE_STATIC'])",
        metadata={"tags": ["nbval-check-output"]},
        outputs=[new_output("stream", name="stdout", text="module://matplotlib 1\n")],
        execution_count=1,
    )
    recorded = new_code_cell("1 / 0", metadata={"tags": ["gpu", "nbval-skip"]})
    changed = new_code_cell(
        "6 * 7",
        metadata={"tags": ["nbval-check-output"]},
        outputs=[new_output("execute_result", {"text/plain": "43"}, execution_count=1)],
        execution_count=1,
    )
    proving.execute(new_markdown_cell("# Title"), figure, recorded)
    proving.execute(changed, source=OTHER)
    proving.checkout.write("conftest.py", "")
    proving.checkout.variables["MPLBACKEND"] = "Agg"
    came_out = proving.pytest("--nbval-lax", plugins=["nbval.plugin"])
    assert came_out == "1 failed, 1 passed, 1 skipped"
    assert proving.proved() and not proving.proved(OTHER)
