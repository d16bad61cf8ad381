"""Answers of others to every exercise: the wrong ones are refused, the right ones pass.

They lie in ``tests/<chapter>/answers/<section's stem>/<file of the exercise>``: functions named
``wrong_…`` and ``right_…``, or for a prediction the lists ``WRONG`` and ``RIGHT``.
"""

import importlib.util
from pathlib import Path

import pytest

from dlcourse.exercises import checker, registry
from dlcourse.exercises.model import Prediction

TESTS = Path(__file__).parents[1]
EXERCISES = {exercise.key: exercise for exercise in registry.all_exercises()}


def path_of(key):
    """Beside the tests as the exercise beside its section: chapter, stem, file."""
    _, chapter, _, stem, name = registry.modules(key.split(".")[0])[key].split(".")
    return TESTS / chapter / "answers" / stem / f"{name}.py"


def load(kind):
    """All answers whose name begins with ``kind``: (exercise, name, answer)."""
    found = []
    for key, exercise in EXERCISES.items():
        if not path_of(key).exists():
            continue
        spec = importlib.util.spec_from_file_location(f"answers_{key}", path_of(key))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if isinstance(exercise, Prediction):
            values = getattr(module, kind.upper())
            found += [(exercise, f"{kind}_{i}", value) for i, value in enumerate(values)]
        else:
            names = [name for name in vars(module) if name.startswith(f"{kind}_")]
            found += [(exercise, name, getattr(module, name)) for name in names]
    return found


WRONG, RIGHT = load("wrong"), load("right")


def label(value):
    return getattr(value, "key", value if isinstance(value, str) else "answer")


@pytest.mark.parametrize(("exercise", "name", "answer"), WRONG, ids=label)
def test_a_wrong_answer_is_refused_by_the_cases_that_everybody_gets(exercise, name, answer):
    """So that ``check`` and ``grade``, which share them, agree without any luck."""
    verdict = checker.examine(exercise, answer)
    assert verdict.status == checker.FAILED
    assert verdict.message


@pytest.mark.parametrize(("exercise", "name", "answer"), RIGHT, ids=label)
def test_a_right_answer_written_otherwise_passes(exercise, name, answer):
    verdict = checker.examine(exercise, answer, fresh=iter(range(5000, 5040)))
    assert verdict.status == checker.PASSED, verdict.message


@pytest.mark.parametrize("key", EXERCISES)
def test_every_exercise_was_tried_with_several_wrong_answers_and_a_right_one(key):
    assert path_of(key).exists(), f"no answers to {key}"
    assert sum(exercise.key == key for exercise, _, _ in WRONG) >= 3
    assert sum(exercise.key == key for exercise, _, _ in RIGHT) >= 1


def test_every_file_of_answers_belongs_to_an_exercise():
    assert set(TESTS.glob("*/answers/**/*.py")) == {path_of(key) for key in EXERCISES}
