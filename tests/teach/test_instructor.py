"""The instructor's edition, and the commands."""

import csv
import json
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dlcourse.cli import app
from dlcourse.exercises import progress, registry
from dlcourse.build.exercise_cells import function_source
from dlcourse.build.results import executed_path
from dlcourse.build.sources import read_source
from dlcourse.teach import instructor

pytest.importorskip("jupytext")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbconvert")

SOURCE = """\
# %% [markdown] tags=["slide"]
# # Optimizers
# The maths $x^2$.

# %% tags=["fragment"]
print("on a slide")

# %% [markdown] tags=["notes"]
# Speak slowly.

# %% tags=["skip"]
hidden = "left out"

# %% [markdown] tags=["subslide"]
# ## More

# %% [markdown]
# {{exercise 119.2.lion}}

# %% [markdown]
# {{exercise 119.2.predict-beta}}

# %% [markdown]
# {{quiz 119.2}}
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    source = tmp_path / "chapters" / "119_large_scale_training" / "2_optimizers.py"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "dlcourse"\nversion = "0.1.0"\n')
    (tmp_path / "_config.yml").write_text("repository:\n  url: https://example.org/course\n")
    (tmp_path / "_toc.yml").write_text(
        "root: book/intro\nchapters:\n  - file: chapters/119_large_scale_training/2_optimizers\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(root):
    done = CliRunner().invoke(app, ["instructor", "build", "--out", "out"])
    assert done.exit_code == 0, done.output
    return root / "out" / "119_large_scale_training" / "2_optimizers.ipynb"


def test_the_notebook_has_each_solution_after_its_exercise(root):
    notebook = nbformat.read(build(root), as_version=4)
    nbformat.validate(notebook)
    lion = registry.find_exercise("119.2.lion")
    roles = [c.metadata.get("dlcourse", {}).get("role") or c.id for c in notebook.cells]
    assert roles[roles.index("check") + 1] == "solution-119-2-lion"
    assert roles[roles.index("run") + 1] == "solution-119-2-predict-beta"
    (solution,) = [c for c in notebook.cells if c.id == "solution-119-2-lion"]
    assert function_source(lion.reference) in solution.source
    assert ":::" not in solution.source
    assert [c for c in notebook.cells if c.id.startswith("solution")][-1].id.endswith("beta")


def test_timing_is_what_was_measured_or_said_to_be_missing(root):
    assert "has not been measured" in build(root).read_text()
    entry = {"result": "ok", "seconds": 41.6, "peak_memory_mb": 512.2, "device": "A machine",
             "date": "2025-03-01T10:00:00"}  # fmt: skip
    summary = root / "_build" / "executed" / "summary.json"
    summary.parent.mkdir(parents=True)
    summary.write_text(json.dumps({"chapters/119_large_scale_training/2_optimizers.py": entry}))
    assert "took 42 s and 512 MB on A machine (2025-03-01)" in build(root).read_text()


def test_slides_follow_the_tags_and_load_nothing_from_the_network(root):
    path = build(root)
    page = path.with_suffix(".slides.html").read_text()
    assert page.count('<section class="slide">') == 2
    assert page.count('<div class="fragment">') == 1
    assert "Speak slowly" in page.split('<div class="notes">')[1].split("</section>")[0]
    assert "left out" not in page
    assert "torch.sign(beta1" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    cells = nbformat.read(path, as_version=4).cells
    types = [c.metadata.get("slideshow", {}).get("slide_type") for c in cells]
    assert [t for t in types if t] == ["slide", "fragment", "notes", "skip", "subslide"]


def test_slides_show_the_outputs_of_the_last_run(root):
    source = root / "chapters" / "119_large_scale_training" / "2_optimizers.py"
    source.write_text(
        '# %% [markdown]\n# # Title\n\n# %% tags=["slide"]\n1 + 1\n', encoding="utf8"
    )
    executed = read_source(source)
    executed.cells[-1].outputs = [nbformat.v4.new_output("stream", text="the sum is two")]
    path = executed_path(root, source.relative_to(root))
    path.parent.mkdir(parents=True)
    nbformat.write(executed, path)
    assert "the sum is two" in build(root).with_suffix(".slides.html").read_text()


def test_a_source_without_tags_has_no_slides_and_it_is_said(root):
    source = root / "chapters" / "119_large_scale_training" / "2_optimizers.py"
    source.write_text("# %% [markdown]\n# # Title\n")
    done = CliRunner().invoke(app, ["instructor", "build", "--out", "out"])
    assert "no slides, since no cell is tagged `slide`" in done.output


def test_the_build_says_what_it_does_while_it_runs(root):
    source, said = Path("chapters/119_large_scale_training/2_optimizers.py"), []

    def tell(line):
        said.append((line, sorted(p.suffix for p in (root / "out").rglob("2_optimizers.*"))))

    instructor.build(root, [source], root / "out", tell)
    assert [line.split(":")[0].strip() for line, _ in said] == [
        "1 of 1", "no outputs", "notebook", "2 slides",
    ]  # fmt: skip
    assert [there for _, there in said] == [[], [], [".ipynb"], [".html", ".ipynb"]]


def test_what_an_instructor_changed_in_an_edition_is_kept(root):
    path = build(root)
    build(root)
    assert len(list(path.parent.glob("2_optimizers.*"))) == 2  # notebook and slides, no copies
    page = path.with_suffix(".slides.html")
    path.write_text("my own examples")
    page.write_text("my own slides")
    done = CliRunner().invoke(app, ["instructor", "build", "--out", "out"])
    kept = sorted(p.read_text() for p in path.parent.glob("2_optimizers*.2*"))
    assert kept == ["my own examples", "my own slides"]
    assert done.output.count("it is kept as 2_optimizers.") == 2
    assert nbformat.read(path, as_version=4).cells


def test_the_edition_has_the_outputs_of_the_last_run(root):
    source = root / "chapters" / "119_large_scale_training" / "2_optimizers.py"
    executed = read_source(source)
    cell = next(c for c in executed.cells if c.cell_type == "code")
    cell.outputs = [nbformat.v4.new_output("stream", text="it has run")]
    path = executed_path(root, source.relative_to(root))
    path.parent.mkdir(parents=True)
    nbformat.write(executed, path)
    edition = nbformat.read(build(root), as_version=4)
    (found,) = [c for c in edition.cells if c.cell_type == "code" and c.outputs]
    assert found.source == cell.source and found.outputs[0]["text"] == "it has run"


def test_the_progress_command_shows_exports_and_resets(monkeypatch, tmp_path):
    monkeypatch.setenv("DLCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("DLCOURSE_STATIC", raising=False)
    progress.record_check("119.2.lion", passed=True, hints=0)

    def run(*args, answer=""):
        return CliRunner().invoke(app, ["progress", *args], input=answer)

    assert "✓  119.2.lion " in run().output
    assert f"1 of {len(instructor_rows())} done." in run().output
    run("--export", str(tmp_path / "copy.json"))
    assert json.loads((tmp_path / "copy.json").read_text())["exercises"]["119.2.lion"]
    assert run("--reset", answer="n\n").exit_code == 1
    assert progress.load()["exercises"]
    assert run("--reset", answer="y\n").exit_code == 0
    assert not progress.load()["exercises"]
    progress.record_check("119.2.lion", passed=True, hints=0)
    run("--reset", "--yes")
    assert not progress.load()["exercises"]


def instructor_rows():
    from dlcourse.exercises import report

    return report.rows()


def test_the_grade_command_writes_one_row_a_notebook_and_sums_up_the_class(tmp_path):
    pytest.importorskip("psutil")
    solved = textwrap.dedent("""
        from dlcourse.exercises import check
        check("119.1b.predict-dead-worker", 140)
    """)
    for name, source in (("good", solved), ("bad", "import os; os._exit(3)")):
        cell = {"cell_type": "code", "source": source, "metadata": {}}
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"cells": [cell]}))
    table = tmp_path / "grades.csv"
    command = ["instructor", "grade", str(tmp_path), "--out", str(table), "--timeout", "60"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    with open(table, newline="") as file:
        rows = {row["notebook"]: row for row in csv.DictReader(file)}
    assert rows["good.ipynb"]["119.1b.predict-dead-worker"] == "passed"
    assert rows["good.ipynb"]["119.1b.checksum"] == "not attempted"
    assert rows["bad.ipynb"]["119.1b.checksum"] == "not attempted"  # that cell alone was lost
    assert "cell 1: the process ended itself (exit code 3)" in rows["bad.ipynb"]["remarks"]
    assert "119.1b.predict-dead-worker: 1 passed, 1 not attempted" in done.output
    assert "quiz 119.1b: answers in 0 notebooks" in done.output
    assert (tmp_path / "grades-summary.csv").exists()


def test_the_table_of_grades_is_tried_before_the_work(tmp_path, monkeypatch):
    from dlcourse.teach import grader

    monkeypatch.setattr(grader, "grade_folder", lambda *a, **k: pytest.fail("graded in vain"))
    done = CliRunner().invoke(app, ["instructor", "grade", ".", "--out", str(tmp_path)])
    assert done.exit_code == 1 and "is a folder" in done.output
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "grades.csv")
    assert CliRunner().invoke(app, ["instructor", "grade", ".", "--out", out]).exit_code == 1


def test_an_empty_folder_is_said(tmp_path):
    done = CliRunner().invoke(app, ["instructor", "grade", str(tmp_path)])
    assert done.exit_code == 1
    assert "no notebook" in done.output
