"""One line in a chapter's source becomes the cells of an exercise."""

import pytest
from nbformat import validate
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dlcourse.build import exercise_cells as cells
from dlcourse.exercises import registry

LION = registry.find_exercise("119.2.lion")


def roles(expanded):
    return [cell.metadata.get("dlcourse", {}).get("role") for cell in expanded]


def test_an_exercise_becomes_statement_stub_check_and_solution():
    expanded = cells.expand([new_markdown_cell("{{exercise 119.2.lion}}")])
    assert roles(expanded) == ["statement", "stub", "check", "solution"]
    statement, stub, check, solution = expanded
    assert statement.source.startswith(
        "::::{exercise} 119.2.lion: One step of Lion\n:label: ex-119-2-lion\n"
    )
    assert "\n*Implement.*\n" in statement.source
    assert LION.statement.strip() in statement.source
    assert "def lion_step(p, g, m, lr, beta1, beta2, weight_decay):" in stub.source
    assert "raise NotImplementedError" in stub.source
    assert "torch.sign" not in stub.source
    assert check.source.endswith('check("119.2.lion", lion_step)')
    assert solution.metadata["tags"] == ["solution"]
    assert solution.source.startswith("::::{solution} 119.2.lion\n")
    assert cells.function_source(LION.reference) in solution.source


def test_a_prediction_also_gets_its_run_which_waits_for_it(capsys):
    expanded = cells.exercise_cells("119.2.predict-beta")
    assert roles(expanded) == ["statement", "stub", "check", "run", "solution"]
    assert expanded[1].source.startswith("predict_beta = ...")
    exec(expanded[3].source, {"predict_beta": ...})
    assert "589" not in (shown := capsys.readouterr().out) and "prediction first" in shown
    exec(expanded[3].source, {"predict_beta": 60})
    assert capsys.readouterr().out == "589\n"


def test_a_quiz_becomes_one_call():
    (cell,) = cells.expand([new_markdown_cell("{{quiz 119.2}}\n")])
    assert cell.source == 'from dlcourse.exercises import quiz\n\nquiz("119.2")'


def test_tags_of_the_marker_hold_for_the_cells_that_it_becomes():
    marker = new_markdown_cell("{{exercise 119.2.predict-beta}}", metadata={"tags": ["skip"]})
    tags = [cell.metadata["tags"] for cell in cells.expand([marker])]
    assert tags == [["skip"], ["skip"], ["skip"], ["skip"], ["solution", "skip"]]


def test_other_cells_stay_as_they_are_and_the_notebook_is_valid():
    before = [new_markdown_cell("# Title"), new_code_cell("x = '{{exercise 119.2.lion}}'")]
    expanded = cells.expand([*before, new_markdown_cell("{{exercise 119.2.lion}}")])
    assert expanded[:2] == before
    assert len(expanded) == 6
    validate(new_notebook(cells=expanded))


def test_expansion_is_the_same_every_time():
    assert cells.exercise_cells("119.2.lion") == cells.exercise_cells("119.2.lion")


def test_a_marker_beside_other_text_is_refused():
    with pytest.raises(cells.MarkerError, match="its own"):
        cells.expand([new_markdown_cell("Try this: {{exercise 119.2.lion}}")])


def test_an_unknown_exercise_is_refused():
    with pytest.raises(registry.RegistryError):
        cells.expand([new_markdown_cell("{{exercise 119.2.none}}")])
    with pytest.raises(registry.RegistryError):
        cells.expand([new_markdown_cell("{{quiz 119.99}}")])
