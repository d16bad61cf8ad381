"""Every exercise of every chapter: its checks are themselves checked."""

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
import textwrap

import pytest
import torch

from dlcourse.build import exercise_cells as cells
from dlcourse.build import project
from dlcourse.chapters import chapters
from dlcourse.exercises import checker, registry
from dlcourse.exercises.compare import snapshot
from dlcourse.exercises.model import Exercise, Prediction

EXERCISES = list(registry.all_exercises())
FUNCTIONS = [e for e in EXERCISES if isinstance(e, Exercise)]
PREDICTIONS = [e for e in EXERCISES if isinstance(e, Prediction)]
MISTAKES = [(e, name) for e in EXERCISES for name in e.mistakes]
SOURCES = project.listed_sources(project.find_root())


def by_key(exercise):
    return exercise.key


def answer_of(exercise):
    return exercise.experiment() if isinstance(exercise, Prediction) else exercise.reference


def run_cell(source, **namespace):
    """Run a cell's source where only its own imports are there, and what is given."""
    exec(compile(source, "<cell>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("exercise", EXERCISES, ids=by_key)
def test_the_reference_passes_in_all_cases_and_on_many_seeds(exercise):
    verdict = checker.examine(exercise, answer_of(exercise), fresh=iter(range(100, 140)))
    assert (verdict.status, verdict.mistake) == (checker.PASSED, None), verdict.message


@pytest.mark.parametrize("exercise", EXERCISES, ids=by_key)
def test_at_least_four_mistakes_are_planted_the_documents_own_among_them(exercise):
    assert len(exercise.mistakes) >= 4
    assert any(name.startswith("listing") for name in exercise.mistakes)
    hints = [mistake.hint for mistake in exercise.mistakes.values()]
    assert len(set(hints)) == len(hints)
    assert all(len(hint) > 20 for hint in hints)


@pytest.mark.parametrize(("exercise", "name"), MISTAKES, ids=lambda v: getattr(v, "key", v))
def test_a_planted_mistake_is_refused_with_the_hint_meant_for_it(exercise, name):
    verdict = checker.examine(exercise, exercise.mistakes[name].answer)
    assert verdict.status == checker.FAILED
    assert verdict.mistake == name
    assert verdict.hint == exercise.mistakes[name].hint


@pytest.mark.parametrize("exercise", EXERCISES, ids=by_key)
def test_statement_and_hints_are_written(exercise):
    assert len(exercise.statement.strip()) > 80
    assert len(exercise.hints) >= 2
    assert len(set(exercise.hints)) == len(exercise.hints)


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=by_key)
def test_the_stub_raises_and_counts_as_not_attempted(exercise):
    stub = run_cell(cells.stub_source(exercise))[exercise.variable]
    inputs = checker.draw_case(exercise, 0)
    with pytest.raises(NotImplementedError):
        stub(*inputs.values())
    assert stub.__doc__
    assert checker.examine(exercise, stub).status == checker.NOT_ATTEMPTED


@pytest.mark.parametrize("exercise", PREDICTIONS, ids=by_key)
def test_the_stub_of_a_prediction_counts_as_not_attempted(exercise):
    value = run_cell(cells.stub_source(exercise))[exercise.variable]
    assert value is ...
    assert checker.examine(exercise, value).status == checker.NOT_ATTEMPTED


@pytest.mark.parametrize("exercise", EXERCISES, ids=by_key)
def test_the_solution_as_it_is_shown_passes_with_nothing_but_its_imports(exercise):
    (code,) = re.findall(r"```python\n(.*?)\n```", cells.solution_markdown(exercise), re.DOTALL)
    namespace = run_cell(exercise.imports + "\n" + code)
    if isinstance(exercise, Prediction):
        answer = namespace[exercise.experiment.__name__]()
    else:
        answer = namespace[exercise.variable]
    assert checker.examine(exercise, answer).status == checker.PASSED


@pytest.mark.parametrize("exercise", PREDICTIONS, ids=by_key)
def test_the_run_of_a_prediction_shows_the_answer_once_something_is_predicted(exercise, capsys):
    source, right = cells.run_source(exercise), str(exercise.experiment())
    run_cell(source, **{exercise.variable: ...})
    assert right not in capsys.readouterr().out
    run_cell(source, **{exercise.variable: exercise.mistakes["listing"].answer})
    assert capsys.readouterr().out.strip() == right


@pytest.mark.parametrize("exercise", PREDICTIONS, ids=by_key)
def test_the_discussion_of_a_prediction_names_the_answer(exercise):
    answer, said = exercise.experiment(), exercise.discussion.replace(",", "")
    assert re.search(rf"(?<![\d.]){re.escape(f'{answer:g}')}(?![\d]|\.\d)", said)


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=by_key)
def test_cases_are_drawn_from_the_seed_alone_and_differ_between_seeds(exercise):
    def drawn(seed):
        return checker.draw_case(exercise, seed)

    def differ(a, b):
        return checker.difference(list(a.values()), list(b.values()), rtol=0, atol=0)

    assert differ(drawn(3), drawn(3)) is None
    assert all(differ(drawn(3), drawn(seed)) for seed in range(4, 9))
    assert list(drawn(0)) == list(checker.inspect.signature(exercise.reference).parameters)


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=by_key)
def test_an_answer_that_knows_the_fixed_cases_by_heart_fails_on_a_fresh_one(exercise):
    cases = checker.fixed_cases(exercise)
    known = [exercise.reference(*checker.draw_case(exercise, case).values()) for case in cases]
    answers = itertools.chain(known, itertools.repeat(known[0]))

    def by_heart(*args):
        return next(answers)

    exercise = dataclasses.replace(exercise, differentiable=(), returns_new=False)
    assert checker.examine(exercise, by_heart, fresh=iter([123_456, 7])).status == checker.FAILED


def _with_other_numbers(exercise):
    """The reference with one of its numbers made 10 times as large, or a thousandth of it.

    Whole numbers such as 1 and 2 are left out: they are counts, and often any other does as well.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(exercise.reference)))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, float):
            continue
        number = node.value
        if number == int(number):
            continue
        for node.value in (10 * number, number / 1000):
            yield number, run_cell(ast.unparse(tree), **vars(_module(exercise)))
        node.value = number


def _module(exercise):
    return importlib.import_module(exercise.reference.__module__)


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=by_key)
def test_another_number_in_the_reference_is_noticed_by_some_case(exercise):
    """A bound that acts in no case could be any other, and the answer would pass."""
    for number, names in _with_other_numbers(exercise):
        verdict = checker.examine(exercise, names[exercise.reference.__name__])
        assert verdict.status == checker.FAILED, number


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=by_key)
def test_every_exercise_has_edge_cases_of_its_own_form(exercise):
    names = list(checker.inspect.signature(exercise.reference).parameters)
    edges = exercise.edges()
    assert len(edges) >= 3
    assert all(list(arguments) == names for arguments in edges.values())
    for case in edges:  # made afresh: whoever writes into one does not change the next
        checker.run_case(exercise, exercise.mistakes[list(exercise.mistakes)[0]].answer,
                         checker.draw_case(exercise, case))  # fmt: skip
        assert list(checker.draw_case(exercise, case)) == names


TRAINED = [e for e in FUNCTIONS if e.differentiable]


@pytest.mark.parametrize("exercise", TRAINED, ids=by_key)
def test_an_answer_that_cannot_train_is_refused_where_it_must(exercise):
    def detached(*args):
        return snapshot(exercise.reference(*args))

    def without_gradient(*args):
        with torch.no_grad():
            return exercise.reference(*args)

    for answer in (detached, without_gradient):
        verdict = checker.examine(exercise, answer)
        assert verdict.status == checker.FAILED
        assert "no gradient flows back" in verdict.message


def test_every_loss_and_everything_between_trained_layers_must_train():
    assert {e.key for e in TRAINED} == {
        "120.1a.align-and-spread", "120.1a.contrastive-loss", "120.1a.supervised-contrast",
        "120.1b.dino-loss", "120.1b.koleo", "120.1c.mask-tokens", "120.1c.masked-l1",
        "120.2.fill-in", "120.2.normalised-loss", "120.2.random-masking",
        "121.1a.average-present", "121.1a.read-across", "121.1b.many-labels",
        "121.2a.sigmoid-loss", "121.2a.symmetric-loss",
        "121.2b.best-query", "121.2b.soft-prompt",
        "122.1a.log-prob", "122.1c.clipped-objective",
    }  # fmt: skip


@pytest.mark.parametrize("exercise", [e for e in FUNCTIONS if e.returns_new], ids=by_key)
def test_what_must_be_new_is_said_in_stub_or_statement(exercise):
    assert re.search(r"\bnew\b", exercise.statement)
    assert re.search(r"\bnew\b", exercise.reference.__doc__)


def defined_by(exercise):
    """The names that the cells of an exercise put into the notebook."""
    names = {exercise.variable}
    return names | {exercise.experiment.__name__} if isinstance(exercise, Prediction) else names


def names_in_code(source):
    """Every name that the code cells of a source use, define or import."""
    found = set()
    for cell in re.split(r"^# %%", source.read_text(encoding="utf8"), flags=re.MULTILINE)[1:]:
        head, _, code = cell.partition("\n")
        if "[markdown]" in head:
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_solving_an_exercise_changes_no_name_of_its_notebook(source):
    used = [e for e in EXERCISES if e.key in used_keys(source)]
    names = names_in_code(source)
    for exercise in used:
        shadowed = defined_by(exercise) & names
        assert not shadowed, f"{exercise.key} defines {shadowed}, which a cell uses: rename it"
    defined = [name for exercise in used for name in defined_by(exercise)]
    assert len(set(defined)) == len(defined)


@pytest.mark.parametrize("exercise", EXERCISES, ids=by_key)
def test_no_exercise_defines_what_its_chapter_exports(exercise):
    chapter = chapters()[exercise.key.partition(".")[0]]
    public = set(dir(importlib.import_module(f"dlcourse.{chapter}")))
    assert not defined_by(exercise) & public


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_each_section_uses_at_least_three_exercises(source):
    keys = used_keys(source)
    section = ".".join([source.parent.name.split("_")[0], source.stem.split("_")[0]])
    if source.stem.startswith("0_overview"):
        return
    known = {exercise.key for exercise in EXERCISES}
    assert keys <= known, f"unknown exercises: {keys - known}"
    assert len({key for key in keys if key.startswith(section + ".")}) >= 3
    assert f"{{{{quiz {section}}}}}" in source.read_text(encoding="utf8")


def test_every_exercise_of_a_listed_section_is_used_by_it():
    sections = {
        ".".join([s.parent.name.split("_")[0], s.stem.split("_")[0]]): used_keys(s) for s in SOURCES
    }
    unused = [
        e.key
        for e in EXERCISES
        if (section := e.key.rpartition(".")[0]) in sections and e.key not in sections[section]
    ]
    assert not unused


def used_keys(source):
    text = source.read_text(encoding="utf8")
    return set(re.findall(r"\{\{exercise ([\w.-]+)\}\}", text)) | set(
        re.findall(r"\bcheck\(\s*[\"']([\w.-]+)[\"']", text)
    )
