"""A chapter's card has the figure that a cell is marked with, else the first."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from dlcourse.build.site.landing import Chapters
from dlcourse.build.systems import Chapter

CHAPTER = Chapter(119, "Large-scale training", "large_scale_training", ())


def figure(name: str, **metadata) -> dict:
    png = base64.b64encode(name.encode()).decode()
    cell = new_code_cell("plt.show()", outputs=[new_output("display_data", {"image/png": png})])
    cell.metadata.update(metadata)
    cell.metadata["mystnb"] = {"figure": {"name": name}, "image": {"alt": f"{name},\n seen"}}
    return cell


def picture(root: Path, **notebooks: list) -> tuple[bytes, str] | None:
    """The picture that is chosen from executed notebooks of these cells, and its text."""
    for stem, cells in notebooks.items():
        file = root / "_build/executed" / CHAPTER.folder / f"{stem}.ipynb"
        file.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(cells=cells), file)
    env = SimpleNamespace(srcdir=root, note_dependency=lambda path: None)
    directive = Chapters.__new__(Chapters)
    directive.state = SimpleNamespace(document=SimpleNamespace(settings=SimpleNamespace(env=env)))
    found = directive.picture(CHAPTER)
    return found and ((root / found[0]).read_bytes(), found[1])


def test_the_first_figure_is_taken(tmp_path):
    plain = new_code_cell("x = 1")
    found = picture(tmp_path, **{"0_overview": [plain, figure("a")], "2_optimizers": [figure("b")]})
    assert found == (b"a", "a, seen")


@pytest.mark.parametrize("stem", ["0_overview", "2_optimizers"])
def test_a_marked_figure_is_taken_before_it(tmp_path, stem):
    notebooks = {"0_overview": [figure("a")], "1a_distributed": [figure("b")]}
    notebooks.setdefault(stem, []).append(figure("c", card=True))
    assert picture(tmp_path, **notebooks) == (b"c", "c, seen")


def test_a_chapter_without_figures_has_none(tmp_path):
    assert picture(tmp_path, **{"0_overview": [new_code_cell("x = 1")]}) is None
