"""Facts about every chapter: its learner's notebook is in step, its numbers are bound."""

from pathlib import Path

import pytest
import yaml

from dlcourse.build.learner import pair_in_step
from dlcourse.build.sources import read_source

ROOT = Path(__file__).parents[1]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
SOURCES = [
    ROOT / f"{chapter['file']}.py"
    for part in TOC["parts"]
    for chapter in part["chapters"]
    if chapter["file"].startswith("chapters/")
]


def code(source):
    return "\n".join(cell.source for cell in read_source(source).cells if cell.cell_type == "code")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_committed_notebook_is_what_the_source_gives(source):
    assert pair_in_step(source), f"run: dlcourse pair {source.relative_to(ROOT)}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_chapter_binds_its_claims_to_checks(source):
    assert "claim(" in code(source)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_section_has_something_to_move_and_a_run_to_compare(source):
    if source.stem.startswith("0_"):
        pytest.skip("an opening page")
    notebook = read_source(source)
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    assert "explore(" in code(source)
    assert "nbval-check-output" in tags, "mark a cell whose output is the same in every run"
