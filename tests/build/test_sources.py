"""One source: the site's notebook has every cell as it is written, and knows its recorded cells."""

import nbformat
import pytest

from dlcourse.build import project, sources
from dlcourse.notebook.records import RecordError

SOURCE = """\
# %% [markdown]
# (sec-toy)=
# # 1.1 A toy
# By {cite:t}`chen2023lion`.

# %% tags=["parameters"]
size = 1

# %%
x = 1

# %% tags=["gpu", "hide-input"] name="big"
import torch

# %%
x = 1
"""


@pytest.fixture
def source(checkout):
    return checkout.add("1a_toy", SOURCE)


def recorded(source, *cells):
    """The recorded cells of a notebook with these cells."""
    source.write_text("\n\n".join(cells))
    return sources.read_source(source)


def test_site_notebook_has_all_cells_as_written(source):
    notebook = sources.read_source(source)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", *["code"] * 4]
    assert "{cite:t}`chen2023lion`" in notebook.cells[0].source
    assert notebook.cells[1].metadata.tags == ["parameters"]


def test_a_notebook_knows_its_section_and_a_recorded_cell_its_key(source):
    notebook = sources.read_source(source)
    assert notebook.metadata.dlcourse == {"section": "1.1a"}
    keys = [cell.metadata.get("dlcourse") for cell in notebook.cells]
    assert keys == [None, None, None, {"record": "1.1a.big"}, None]


def test_cells_with_the_same_text_have_ids_of_their_own_that_repeat(source):
    ids = [cell.id for cell in sources.read_source(source).cells]
    assert len(set(ids)) == len(ids) and ids[4] == f"{ids[2]}-2"
    assert ids == [cell.id for cell in sources.read_source(source).cells]


def test_a_source_needs_no_header(checkout):
    bare = checkout.add("1_bare", "# %% [markdown]\n# # Title\n")
    assert [cell.source for cell in sources.read_source(bare).cells] == ["# Title"]


def test_recorded_cells_are_found_by_name_in_order(source):
    notebook = recorded(
        source, '# %% tags=["long"] name="b"\n1', "# %%\n2", '# %% tags=["gpu"] name="a"\n3'
    )
    assert [cell.source for cell in sources.recorded_cells(notebook).values()] == ["1", "3"]
    assert list(sources.recorded_cells(notebook)) == ["b", "a"]


@pytest.mark.parametrize(
    "cells, message",
    [
        (
            ['# %% tags=["gpu"]\nstep()\nmore()'],
            r"cell 0 \('step\(\)'\) is tagged gpu but has no name.*# %% tags=\[\"gpu\"\] name=",
        ),
        (['# %% tags=["long"] name="a b"\n1'], "tagged long but has no name"),
        (['# %% tags=["gpu"] name="a"\n1', '# %% tags=["long"] name="a"\n2'], "'a' is taken"),
        (['# %% [markdown] tags=["gpu"] name="a"\n# Text'], "not a code cell; remove the tag"),
        (['# %% tags=["gpu", "long"] name="a"\n1'], "gpu and long; .* tagged gpu alone"),
        (['# %% tags=["gpu"] name="a"\n%time f()'], "not plain Python"),
        (['# %% tags=["gpu"] name="a"\nx = ('], "not plain Python"),
    ],
)
def test_cells_that_cannot_be_recorded_are_refused_with_the_reason(source, cells, message):
    with pytest.raises(RecordError, match=message):
        recorded(source, *cells)


def test_exercise_markers_become_cells(checkout):
    source = checkout.add("1_ex", "# %% [markdown]\n# {{exercise 119.2.lion}}\n")
    text = sources.notebook_text(sources.read_source(source))
    assert "NotImplementedError" in text and "{solution}" in text and "{{exercise" not in text


def test_the_title_is_the_first_heading(source):
    assert sources.title_of(sources.read_source(source)) == "1.1 A toy"
    assert sources.title_of(recorded(source, "# %%\n# # no title\n")) is None


def test_the_text_of_a_notebook_is_that_of_a_file(source):
    text = sources.notebook_text(sources.read_source(source))
    assert text.endswith("}\n") and text.startswith('{\n "cells"')
    assert sources.notebook_text(nbformat.reads(text, as_version=4)) == text


# --- the checkout ---------------------------------------------------------------------------------


def test_only_listed_sources_are_chapters(checkout, source):
    checkout.write("chapters/1_toy_chapter/9_draft.py", "")
    checkout.listed += ["1_toy_chapter/0_gone", "../book/intro"]
    checkout._write_toc()
    assert project.listed_sources(checkout.root) == [source]


def test_root_is_found_from_below_and_named_when_absent(
    checkout, source, monkeypatch, tmp_path_factory
):
    assert project.find_root(source.parent) == checkout.root
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setattr(project, "__file__", str(elsewhere / "a/b/c/d.py"))
    with pytest.raises(project.ProjectError, match="clone the repository"):
        project.find_root(elsewhere)


@pytest.mark.parametrize(
    "stem, section", [("1a_toy", "1.1a"), ("2_optimizers", "1.2"), ("0_overview", "1.0")]
)
def test_a_section_is_the_chapters_number_and_the_stems(checkout, stem, section):
    source = checkout.add(stem, "")
    assert project.section_of(checkout.root, source) == section


def test_records_lie_in_the_chapters_package_by_the_sources_stem(checkout, source):
    path = project.records_path(checkout.root, source)
    assert path == checkout.root / "src/dlcourse/toy_chapter/records/1a_toy.json"


def test_a_chapters_extra_has_its_name_if_there_is_one(checkout, source):
    assert project.extra_of(checkout.root, source) == "toy-chapter"
    other = checkout.add("1_x", "", folder="2_other")
    assert project.extra_of(checkout.root, other) is None


def test_missing_address_says_where_to_set_it(checkout):
    assert project.repository_url(checkout.root) == "https://example.org/someone/course"
    checkout.write("_config.yml", "title: x\n")
    with pytest.raises(project.ProjectError, match=r"repository\.url in .*_config\.yml"):
        project.repository_url(checkout.root)


@pytest.mark.parametrize(
    "path, hidden",
    [("a/b.py", False), ("a/.ipynb_checkpoints/b-checkpoint.py", True), (".x/b.py", True)],
)
def test_folders_of_jupyters_own_are_hidden(tmp_path, path, hidden):
    assert project.is_hidden((tmp_path / path).relative_to(tmp_path)) == hidden
