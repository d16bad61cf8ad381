"""One source, the learner's notebook: what is in it, and that writing it is repeatable."""

import base64
import json
import subprocess
import sys

import nbformat
import pytest

from dlcourse.build import learner, project, sources
from dlcourse.build.myst import MystError

SOURCE = """\
# %% [markdown]
# (sec-toy)=
# # 1.1 A toy
# By {cite:p}`chen2023lion, robbins1951, godel, arxivonly`;
# see {numref}`fig-line` and {doc}`the introduction </book/intro>`.

# %% tags=["parameters"]
size = 1

# %% mystnb={"figure": {"caption": "A line {cite:p}`godel`.", "name": "fig-line"}}
x = 1

# %% [markdown] tags=["solution"]
# :::{solution} ex
# SECRET
# :::

# %% tags=["solution"]
secret = "SECRET"

# %% [markdown] tags=["site-only"]
# {unknown}`only on the site`

# %%
x = 1
"""
RECORDED = '\n# %% tags=["gpu"] name="big"\nimport torch\n\n# %% tags=["long"] name="slow"\n1\n'


@pytest.fixture
def source(checkout):
    return checkout.add("1_toy", SOURCE)


def test_learners_notebook_has_no_solution_and_nothing_of_the_site(source):
    text = sources.notebook_text(learner.learner_notebook(source))
    assert "SECRET" not in text and "only on the site" not in text and "{cite" not in text


def test_learners_notebook_is_valid_and_has_no_output(source):
    notebook = nbformat.reads(sources.notebook_text(learner.learner_notebook(source)), as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert notebook.metadata.kernelspec.name == "python3"


def test_citations_link_doi_then_url_then_arxiv(source):
    text = learner.learner_notebook(source).cells[1].source
    assert "[Chen et al., 2023](https://example.org/lion)" in text
    assert "[Robbins and Monro, 1951](https://doi.org/10.1214/aoms/1177729586)" in text
    assert "; Gödel, 1931;" in text
    assert "[Google Brain, 2020](https://arxiv.org/abs/1.2)" in text


def test_a_figures_caption_follows_its_cell(source):
    cells = learner.learner_notebook(source).cells
    position = next(i for i, cell in enumerate(cells) if cell.source == "x = 1")
    assert cells[position + 1].source == "**Figure 1.** A line (Gödel, 1931)."
    assert "see Figure 1 and the introduction." in cells[1].source


def test_cell_ids_repeat_and_survive_edits_of_other_cells(checkout, source):
    before = [cell.id for cell in learner.learner_notebook(source).cells]
    assert before == [cell.id for cell in learner.learner_notebook(source).cells]
    assert len(set(before)) == len(before)
    source.write_text(SOURCE.replace("size = 1", "size = 2"))
    after = [cell.id for cell in learner.learner_notebook(source).cells]
    assert [a == b for a, b in zip(before, after)].count(False) == 1


# --- recorded cells -------------------------------------------------------------------------------


def test_a_recorded_cell_begins_with_the_magic_and_its_key(source):
    source.write_text(SOURCE + RECORDED)
    cells = learner.learner_notebook(source).cells
    assert [cell.source for cell in cells[-2:]] == [
        *("%%recorded 1.1.big\nimport torch", "%%recorded 1.1.slow\n1")
    ]
    assert [cell.metadata.tags for cell in cells[-2:]] == [["gpu"], ["long"]]
    assert sources.read_source(source).cells[-2].source == "import torch"


def test_only_a_notebook_with_recorded_cells_loads_the_magic(source):
    assert "%load_ext" not in learner.learner_notebook(source).cells[0].source
    source.write_text(SOURCE + RECORDED)
    assert "\n%load_ext dlcourse.notebook" in learner.learner_notebook(source).cells[0].source


# --- the setup cell -------------------------------------------------------------------------------


def test_setup_cell_installs_the_chapters_extra_at_the_release(source):
    setup = learner.learner_notebook(source).cells[0]
    assert '"dlcourse[toy-chapter] @ git+https://example.org/someone/course@v1.2.3"' in setup.source


def test_chapter_without_an_extra_installs_the_plain_package(checkout):
    source = checkout.add("1_x", "# %% [markdown]\n# # X\n", folder="2_other")
    setup = learner.learner_notebook(source).cells[0]
    assert '"dlcourse @ git+https://example.org/someone/course@v1.2.3"' in setup.source


def test_stamped_copy_names_the_commit_and_leaves_the_original(source):
    notebook = learner.learner_notebook(source)
    stamped = learner.stamp(notebook, "0123abc")
    assert 'course@0123abc"' in stamped.cells[0].source
    assert 'course@v1.2.3"' in notebook.cells[0].source
    nbformat.validate(stamped)
    assert 'course@ffff"' in learner.stamp(stamped, "ffff").cells[0].source


def test_only_a_learners_notebook_can_be_stamped_and_only_with_a_reference(source):
    with pytest.raises(ValueError, match="no setup cell"):
        learner.stamp(sources.read_source(source), "abc")
    with pytest.raises(ValueError, match="not a commit"):
        learner.stamp(learner.learner_notebook(source), 'x"; import os')


def test_missing_address_says_where_to_set_it(checkout, source):
    checkout.write("_config.yml", "title: x\n")
    with pytest.raises(project.ProjectError, match="repository.url"):
        learner.learner_notebook(source)


SETUP_PROBE = """
import importlib.util, json, subprocess, sys, types
calls = []
subprocess.run = lambda command, **options: calls.append([command[1:], options])
find_spec = importlib.util.find_spec
results = []
for colab in (True, False):
    for missing in (True, False):
        calls = []
        if colab: sys.modules["google.colab"] = types.ModuleType("c")
        else: sys.modules.pop("google.colab", None)
        importlib.util.find_spec = (lambda name: None) if missing else find_spec
        exec(json.loads({setup!r}))
        results.append([colab, missing, calls])
print(json.dumps(results))
"""


def test_setup_cell_installs_on_colab_only_and_only_if_missing(source):
    code = SETUP_PROBE.format(setup=json.dumps(learner.learner_notebook(source).cells[0].source))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for colab, missing, calls in json.loads(done.stdout):
        if colab and missing:
            ((command, options),) = calls
            assert command[:3] == ["-m", "pip", "install"]
            assert command[-1].endswith("course@v1.2.3") and options == {"check": True}
        else:
            assert calls == []


# --- the file -------------------------------------------------------------------------------------


def test_pair_is_written_once_and_again_only_when_it_differs(source):
    assert learner.write_pair(source)
    pair = learner.pair_path(source)
    stamp = pair.stat().st_mtime_ns
    assert not learner.write_pair(source)
    assert pair.stat().st_mtime_ns == stamp
    assert learner.pair_in_step(source)
    pair.write_text(pair.read_text().replace("x = 1", "x = 2"))
    assert not learner.pair_in_step(source)
    assert learner.write_pair(source) and learner.pair_in_step(source)


def kept_copies(source):
    return [p for p in source.parent.glob("*.ipynb") if p != learner.pair_path(source)]


@pytest.mark.parametrize("made", ["answered", "run", "another program's", "damaged"])
def test_what_a_person_made_of_a_notebook_is_kept_beside_it(source, capsys, made):
    learner.write_pair(source)
    pair = learner.pair_path(source)
    notebook = json.loads(pair.read_text())
    if made == "answered":
        notebook["cells"][-1]["source"] = ["my_answer = 42"]
    elif made == "run":
        output = {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
        notebook["cells"][-1]["outputs"] = [output]
    elif made == "another program's":
        del notebook["metadata"]["dlcourse"]["edition"]
    text = '{"cells": [' if made == "damaged" else json.dumps(notebook)
    pair.write_text(text)
    assert learner.write_pair(source)
    (kept,) = kept_copies(source)
    assert kept.read_text() == text and f"kept as {kept.name}" in capsys.readouterr().err
    assert learner.pair_in_step(source)


def test_a_notebook_that_jupyter_only_saved_again_is_replaced_without_a_copy(source):
    learner.write_pair(source)
    pair = learner.pair_path(source)
    notebook = json.loads(pair.read_text())
    notebook["metadata"]["language_info"]["version"] = "3.12.1"
    pair.write_text(json.dumps(notebook, indent=4))
    assert learner.write_pair(source) and not kept_copies(source)


def test_an_older_edition_of_ours_is_replaced_without_a_copy(source):
    learner.write_pair(source)
    source.write_text(SOURCE + "\n# %%\nnew = 1\n")
    assert learner.write_pair(source) and not kept_copies(source)


def test_failed_write_leaves_the_old_file_and_nothing_else(source, monkeypatch):
    learner.write_pair(source)
    before = learner.pair_path(source).read_bytes()
    source.write_text(SOURCE + "\n# %%\nnew = 1\n")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        learner.write_pair(source)
    assert learner.pair_path(source).read_bytes() == before
    assert sorted(file.suffix for file in source.parent.iterdir()) == [".ipynb", ".py"]


# --- what it refers to ----------------------------------------------------------------------------


def test_unknown_markdown_names_file_and_cell(checkout):
    source = checkout.add("1_new", "# %% [markdown]\n# # Title\n# {newrole}`x`\n")
    message = r"1_new\.py, cell that begins '# Title': the role \{newrole\}"
    with pytest.raises(MystError, match=message):
        learner.learner_notebook(source)


def test_labels_of_other_chapters_and_pages_are_known_and_checkpoints_are_not(checkout):
    checkout.write("book/.ipynb_checkpoints/intro-checkpoint.md", "(sec-old)=\n# Old\n")
    checkout.add("1_there", "# %% [markdown]\n# (sec-there)=\n# # There\n", folder="2_other")
    text = "# %% [markdown]\n# # Here\n# {ref}`there <sec-there>`, {ref}`at first <sec-intro>`"
    source = checkout.add("1_here", text)
    assert learner.learner_notebook(source).cells[1].source.endswith(
        "[there](../2_other/1_there.ipynb), at first"
    )
    source.write_text(text + ", {ref}`before <sec-old>`")
    with pytest.raises(MystError, match="sec-old"):
        learner.learner_notebook(source)


DIAGRAM = """

# %% [markdown]
# :::{diagram} figures/1_toy.svg
# :alt: A box
#
# The box.
# :::
"""
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20">'
    '<rect class="box" width="9"/></svg>'
)


def test_a_diagram_is_in_the_notebook_itself_and_counts_among_the_figures(checkout):
    checkout.write("chapters/1_toy_chapter/figures/1_toy.svg", SVG)
    source = checkout.add("1_toy", SOURCE + DIAGRAM)
    image, caption = learner.learner_notebook(source).cells[-1].source.split("\n\n")
    assert caption == "**Figure 2.** The box."
    before, data = image.removesuffix(")").split("base64,")
    assert before == "![A box](data:image/svg+xml;"  # JupyterLab shows no attached SVG
    drawing = base64.b64decode(data).decode()
    assert 'class="box"' in drawing and "<style>" in drawing  # it renders alone


def test_a_diagram_that_is_no_drawing_is_named_with_its_cell(checkout):
    source = checkout.add("1_toy", SOURCE + DIAGRAM)
    message = r"1_toy\.py, cell that begins.*figures/1_toy\.svg: .*No such"
    with pytest.raises(MystError, match=message):
        learner.learner_notebook(source)
    checkout.write("chapters/1_toy_chapter/figures/1_toy.svg", "<p>")
    with pytest.raises(MystError, match="not an SVG drawing"):
        learner.learner_notebook(source)


def test_an_exercise_is_there_without_its_solution(checkout):
    source = checkout.add("1_ex", "# %% [markdown]\n# {{exercise 119.2.lion}}\n")
    site = sources.notebook_text(sources.read_source(source))
    text = sources.notebook_text(learner.learner_notebook(source))
    assert "NotImplementedError" in text and "{{exercise" not in text and "::::" not in text
    assert "{solution}" in site and "torch.sign(" in site and "torch.sign(" not in text
