"""What of an executed notebook its page shows: folds, predictions, nothing for kernels only."""

from __future__ import annotations

import copy

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dlcourse.build import exercise_cells
from dlcourse.build.site.cells import fold_name, prepare


def code(source: str, *tags: str, **metadata) -> dict:
    return new_code_cell(source, metadata={"tags": list(tags), **metadata})


def prepared(*cells: dict) -> list[dict]:
    return prepare(new_notebook(cells=[copy.deepcopy(cell) for cell in cells]))["cells"]


FIGURE = {"figure": {"caption": "A line.", "name": "fig-line"}}


@pytest.mark.parametrize(
    "cell, name",
    [
        (code("ax.plot(x)", "plot"), "Plot"),
        (code("assert x", "check"), "Check"),
        (code("ax.plot(x)", mystnb=FIGURE), "Plot"),
        (code("def draw(a):\n    return fig\n\n\nexplore(draw, {'a': [1, 2]})"), "Plot"),
        (code("claim('It is {x}.', x == 1, x=x)\nsay('So.')"), "Check"),
        (code("x = 1\nclaim('It is {x}.', x == 1, x=x)", "hide-input"), "Check"),
        (code("import torch", "hide-input"), "Show code"),
        (code("import torch", "hide-input", "definitions"), "Imports and definitions"),
        (code("import torch", "definitions"), None),
        (code("x = 1\nclaim('It is {x}.', x == 1, x=x)"), None),  # teaches how x comes about
        (code("x = train()"), None),
        (code("show_source(Lion)"), None),
        (code("%%time\nx = 1"), None),
        (code("claim('x', True)", "remove-input"), None),
    ],
)
def test_the_name_of_a_fold(cell, name):
    assert fold_name(cell) == name


def test_a_fold_has_its_name_open_and_closed():
    (cell,) = prepared(code("claim('x', True)"))
    assert "hide-input" in cell.metadata["tags"]
    assert cell.metadata["mystnb"] == {"code_prompt_show": "Check", "code_prompt_hide": "Check"}


def test_a_name_that_a_cell_gives_itself_stays():
    (cell,) = prepared(code("draw()", "plot", mystnb={"code_prompt_show": "Paint"}))
    assert cell.metadata["mystnb"]["code_prompt_show"] == "Paint"


def test_a_prediction_is_a_form_in_its_statement_and_leaves_no_cells_for_a_kernel():
    cells = prepared(*exercise_cells.exercise_cells("119.2.predict-beta"))
    assert [cell.metadata["dlcourse"]["role"] for cell in cells] == ["statement", "solution"]
    statement = cells[0].source
    assert statement.endswith(":::{prediction} 119.2.predict-beta\n:::\n::::")
    assert statement.count("::::{exercise}") == 1


def test_an_implementation_keeps_its_stub_and_call():
    cells = prepared(*exercise_cells.exercise_cells("119.2.lion"))
    roles = [cell.metadata["dlcourse"]["role"] for cell in cells]
    assert roles == ["statement", "stub", "check", "solution"]


def test_not_attempted_yet_is_left_out_and_other_output_stays():
    check = exercise_cells.exercise_cells("119.2.lion")[2]
    check.outputs = [
        new_output("stream", name="stdout", text="○ 119.2.lion: not attempted yet.\n"),
        new_output("stream", name="stdout", text="something else\n"),
    ]
    (cell,) = prepared(check)
    assert [output["text"] for output in cell.outputs] == ["something else\n"]


def test_the_call_that_shows_a_quiz_is_left_out():
    (cell,) = prepared(exercise_cells.quiz_cell("119.2"))
    assert cell.metadata["tags"] == ["remove-input"]


def test_text_stays_as_it_is():
    text = new_markdown_cell("claim('x', True)")
    assert prepared(text) == [text]
