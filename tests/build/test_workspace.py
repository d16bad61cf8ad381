"""The folder that a learner works in is filled, and never written over."""

import json

import pytest

from dlcourse.build import learner, workspace

SOURCE = "# %% [markdown]\n# # 1.1 A toy\n\n# %%\nx = 1\n"


@pytest.fixture
def source(checkout):
    source = checkout.add("1_toy", SOURCE)
    learner.write_pair(source)
    return source


def fill(checkout):
    sources = [path.relative_to(checkout.root) for path in checkout.root.glob("chapters/*/*.py")]
    return {copy.path.name: copy.state for copy in workspace.fill(checkout.root, sources)}


def test_a_workspace_gets_each_notebook_once(checkout, source):
    assert fill(checkout) == {"1_toy.ipynb": "made"}
    copy = checkout.root / "workspace/1_toy_chapter/1_toy.ipynb"
    assert copy.read_text() == learner.pair_path(source).read_text()
    assert fill(checkout) == {"1_toy.ipynb": "kept"}


def test_an_answer_in_the_workspace_stays_when_the_course_changes(checkout, source):
    fill(checkout)
    copy = checkout.root / "workspace/1_toy_chapter/1_toy.ipynb"
    notebook = json.loads(copy.read_text())
    notebook["cells"][-1]["source"] = ["my_answer = 42"]
    copy.write_text(json.dumps(notebook))
    assert fill(checkout) == {"1_toy.ipynb": "kept"}
    source.write_text(SOURCE + "\n# %%\ny = 2\n")
    learner.write_pair(source)
    assert fill(checkout) == {"1_toy.ipynb": "outdated"}
    assert json.loads(copy.read_text()) == notebook


def test_a_file_that_is_no_notebook_is_left_alone(checkout, source):
    copy = checkout.write("workspace/1_toy_chapter/1_toy.ipynb", "my notes")
    assert fill(checkout) == {"1_toy.ipynb": "outdated"}
    assert copy.read_text() == "my notes"
