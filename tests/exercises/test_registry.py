"""Exercises are found by key, and contradictions between their files are errors."""

import os
import subprocess
import sys
import textwrap

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


def test_a_notebook_of_an_older_course_finds_its_exercises_under_their_old_keys():
    assert registry.find_exercise("119.1b.accumulate").key == "119.1c.accumulate"
    assert registry.find_exercise("120.4.fill-in").key == "120.2.fill-in"


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


HIDE = """
import sys
import textwrap

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.startswith({refused!r}):
            raise ModuleNotFoundError("No module named {library!r}", name={library!r})

sys.meta_path.insert(0, Hidden())
"""


def with_hidden(refused, library, code, tmp_path, **environment):
    """Run ``code`` where an import of ``refused`` fails as if ``library`` were not installed."""
    source = HIDE.format(refused=refused, library=library) + textwrap.dedent(code)
    # As for a learner: `make test` runs headless, where nothing is recorded.
    places = {"DLCOURSE_PROGRESS": str(tmp_path / "progress.json"), "DLCOURSE_STATIC": ""}
    places.update(environment)
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, env={**os.environ, **places}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


MEND = "needs rarelib, which is not installed: pip install 'dlcourse[self-supervised-learning]'"


def test_a_library_that_a_chapter_lacks_stops_neither_the_others_nor_the_report(tmp_path):
    code = """
        import pytest
        from dlcourse.exercises import progress, registry, report
        keys = [e.key for e in registry.all_exercises()]
        assert "119.2.lion" in keys and not any(key.startswith("120.") for key in keys)
        quizzes = [q.key for q in registry.all_quizzes()]
        assert "119.3" in quizzes and not any(key.startswith("120.") for key in quizzes)
        with pytest.raises(ModuleNotFoundError, match="self-supervised-learning"):
            registry.find_exercise("120.1b.koleo")
        with pytest.raises(registry.RegistryError, match="120.1b.koleo"):
            registry.find_exercise("120.1b.koloe")
        progress.record_check("120.1b.koleo", passed=True, hints=0)
        progress.record_check("119.2.lion", passed=True, hints=0)
        rows = {row.key: row for row in report.rows()}
        assert rows["120.1b.koleo"].state == rows["119.2.lion"].state == "done"
        assert rows["120.1b.sinkhorn"].state == "missing"
        print(rows["120.1b.sinkhorn"].title)
        assert "120.1b" in rows and report.advice(list(rows.values()), rows["119.2.lion"].due)
        assert "rarelib" in report.report_html(list(rows.values()), rows["119.2.lion"].due)
    """
    said = with_hidden("dlcourse.self_supervised_learning.exercises", "rarelib", code, tmp_path)
    assert MEND in said


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_progress_command_works_without_any_chapters_library(tmp_path, encoding):
    code = """
        from typer.testing import CliRunner
        from dlcourse.cli import app
        sys.argv = ["dlcourse", "progress"]
        app(standalone_mode=False)
        assert "torch" not in sys.modules
    """
    said = with_hidden("torch", "torch", code, tmp_path, PYTHONIOENCODING=encoding, COLUMNS="200")
    assert "pip install 'dlcourse[large-scale-training]'" in said
    assert "119.2.lion" in said and "0 of " in said


def test_a_library_that_is_there_and_broken_is_said_too(monkeypatch):
    def broken(name):
        raise OSError("libcuda.so: cannot open shared object file")

    monkeypatch.setattr(registry.importlib, "import_module", broken)
    assert list(registry.all_exercises()) == []
    reasons = {item.key: item.reason for item in registry.unavailable()}
    assert "OSError: libcuda.so" in reasons["119.2.lion"] and "120.2" in reasons


def test_here_nothing_is_missing():
    assert registry.unavailable() == []
