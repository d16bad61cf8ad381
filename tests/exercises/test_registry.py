"""Exercises are found by key, and contradictions between their files are errors."""

import subprocess
import sys

import pytest

from dlcourse.exercises import registry
from dlcourse.exercises.model import Exercise, Mistake, Prediction


def prediction(key="119.2.guess", **changes):
    parts = dict(key=key, title="t", statement="s", experiment=lambda: 1, hints=["h"], mistakes={})
    return Prediction(**{**parts, **changes})


@pytest.mark.parametrize("key", ["lion", "119.lion", "119.2.Lion", "119.2.", "19.2.a", "119.2.a_b"])
def test_a_malformed_key_is_refused(key):
    with pytest.raises(ValueError, match="malformed"):
        prediction(key)


@pytest.mark.parametrize("change", [{"title": " "}, {"statement": ""}, {"hints": []},
                                    {"hints": [""]}, {"hints": "one text"}])
def test_an_empty_part_is_refused(change):
    with pytest.raises(ValueError, match="119.2.guess"):
        prediction(**change)


def test_an_unknown_difficulty_is_refused():
    with pytest.raises(ValueError, match="difficulty"):
        Exercise(key="119.2.x", title="t", difficulty="hard", statement="s", reference=abs,
                 cases=dict, hints=["h"], mistakes={"m": Mistake(answer=1, hint="h")})


def text(key):
    return f'QUIZ = Quiz(\n    key="{key}",\n)\n'


def test_a_key_defined_twice_names_both_files():
    files = {"a.guess": text("119.2.guess"), "b.guess": text("119.2.guess")}
    with pytest.raises(registry.RegistryError, match="twice: a.guess and b.guess"):
        registry.collect("119", files)


def test_a_key_of_another_chapter_is_refused():
    with pytest.raises(registry.RegistryError, match="not of chapter 119"):
        registry.collect("119", {"one.guess": text("120.1a.guess")})


def test_a_file_that_defines_nothing_is_refused():
    with pytest.raises(registry.RegistryError, match="neither"):
        registry.collect("119", {"empty": "x = 1"})


def test_a_file_is_named_as_its_key():
    with pytest.raises(registry.RegistryError, match="is called my_guess.py"):
        registry.collect("119", {"one.guess": text("119.2.my-guess")})
    assert registry.collect("119", {"one.quiz": text("119.2")}) == {"119.2": "one.quiz"}


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(registry.RegistryError, match=r"119\.2\.lion"):
        registry.find_exercise("119.2.loin")
    with pytest.raises(registry.RegistryError, match="119"):
        registry.find_exercise("999.1.lion")
    with pytest.raises(TypeError, match="string"):
        registry.find_exercise(print)


def test_exercises_come_by_section_and_the_easy_ones_first():
    keys = [e.key for e in registry.all_exercises()]
    assert keys.index("119.2.predict-beta") < keys.index("119.2.lion")
    assert keys.index("119.2.lion") < keys.index("119.2.cautious-lion")


def test_a_page_with_a_letter_has_keys_of_its_own_between_its_neighbors():
    assert prediction("119.1c.guess").variable == "guess"
    for malformed in ("119.b.guess", "119.1bc.guess", "119.1B.guess"):
        with pytest.raises(ValueError, match="malformed"):
            prediction(malformed)
    keys = ["119.10.guess", "119.2.guess", "119.1c.guess", "119.1a.guess"]
    assert sorted(keys, key=registry.order) == keys[::-1]
    quizzes = [quiz.key for quiz in registry.all_quizzes()]
    assert quizzes.index("119.1a") < quizzes.index("119.1c") < quizzes.index("119.2")


def test_importing_the_package_imports_neither_a_chapter_nor_torch():
    code = (
        "import sys, dlcourse.exercises\n"
        "heavy = [m for m in sys.modules if m == 'torch' or m.startswith('dlcourse.large')]\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
