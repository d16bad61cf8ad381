"""One source, three notebooks: what the learner gets, and that writing it is repeatable."""

import json
import subprocess
import sys

import nbformat
import pytest

from dlcourse.build import learner, project, sources
from dlcourse.build.myst import MystError
from dlcourse.build.records import RecordError

SOURCE = """\
# %% [markdown]
# (sec-toy)=
# # 1.1 A toy
# By {cite:t}`chen2023lion`, {cite:t}`robbins1951`, {cite:t}`godel`, {cite:t}`arxivonly`;
# see {numref}`fig-line` and {doc}`/book/intro`.

# %% tags=["parameters"]
profile = "cpu"

# %% mystnb={"figure": {"caption": "A line by {cite:t}`godel`.", "name": "fig-line"}}
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

# %% tags=["gpu"] name="big"
import torch
"""


@pytest.fixture
def source(checkout):
    return checkout.add("1_toy", SOURCE)


def test_site_notebook_has_all_cells_as_written(source):
    notebook = sources.read_source(source)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len(notebook.cells) == 8
    assert "{cite:t}`chen2023lion`" in notebook.cells[0].source
    assert notebook.cells[-1].metadata.name == "big"


def test_learners_notebook_has_no_solution_and_nothing_of_the_site(source):
    text = sources.notebook_text(sources.learner_notebook(source))
    assert "SECRET" not in text and "only on the site" not in text and "{cite" not in text


def test_learners_notebook_is_valid_and_has_no_output(source):
    notebook = nbformat.reads(sources.notebook_text(sources.learner_notebook(source)), as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert notebook.metadata.kernelspec.name == "python3"


def test_citations_link_doi_then_url_then_arxiv(source):
    text = sources.learner_notebook(source).cells[1].source
    assert "[Chen et al. (2023)](https://example.org/lion)" in text
    assert "[Robbins and Monro (1951)](https://doi.org/10.1214/aoms/1177729586)" in text
    assert "Gödel (1931)" in text
    assert "[Google Brain (2020)](https://arxiv.org/abs/1.2)" in text


def test_a_figures_caption_follows_its_cell(source):
    cells = sources.learner_notebook(source).cells
    position = next(i for i, cell in enumerate(cells) if cell.source == "x = 1")
    assert cells[position + 1].source == "**Figure 1.** A line by Gödel (1931)."
    assert "see Figure 1 and Introduction" in cells[1].source


def test_cell_ids_repeat_and_survive_edits_of_other_cells(checkout, source):
    before = [cell.id for cell in sources.learner_notebook(source).cells]
    assert before == [cell.id for cell in sources.learner_notebook(source).cells]
    assert len(set(before)) == len(before)
    source.write_text(SOURCE.replace('profile = "cpu"', 'profile = "gpu"'))
    after = [cell.id for cell in sources.learner_notebook(source).cells]
    assert [a == b for a, b in zip(before, after)].count(False) == 1


def test_setup_cell_installs_the_chapters_extra_at_the_release(source):
    setup = sources.learner_notebook(source).cells[0]
    assert '"dlcourse[toy-chapter] @ git+https://example.org/someone/course@v1.2.3"' in setup.source


def test_chapter_without_an_extra_installs_the_plain_package(checkout):
    source = checkout.add("1_x", "# %% [markdown]\n# # X\n", folder="2_other")
    setup = sources.learner_notebook(source).cells[0]
    assert '"dlcourse @ git+https://example.org/someone/course@v1.2.3"' in setup.source


def test_stamped_copy_names_the_commit_and_leaves_the_original(source):
    notebook = sources.learner_notebook(source)
    stamped = sources.stamp(notebook, "0123abc")
    assert 'course@0123abc"' in stamped.cells[0].source
    assert 'course@v1.2.3"' in notebook.cells[0].source
    nbformat.validate(stamped)
    assert 'course@ffff"' in sources.stamp(stamped, "ffff").cells[0].source


def test_only_a_learners_notebook_can_be_stamped_and_only_with_a_reference(source):
    with pytest.raises(ValueError, match="no setup cell"):
        sources.stamp(sources.read_source(source), "abc")
    with pytest.raises(ValueError, match="not a commit"):
        sources.stamp(sources.learner_notebook(source), 'x"; import os')


SETUP_PROBE = """
import importlib.util, json, subprocess, sys, types
calls = []
subprocess.run = lambda command, **options: calls.append([command[1:], options])
{colab}
{missing}
exec(json.loads({setup!r}))
print(json.dumps(calls))
"""


@pytest.mark.parametrize("colab", [True, False])
@pytest.mark.parametrize("missing", [True, False])
def test_setup_cell_installs_on_colab_only_and_only_if_missing(source, colab, missing):
    code = SETUP_PROBE.format(
        colab='sys.modules["google.colab"] = types.ModuleType("c")' if colab else "",
        missing="importlib.util.find_spec = lambda name: None" if missing else "",
        setup=json.dumps(sources.learner_notebook(source).cells[0].source),
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    calls = json.loads(done.stdout)
    if colab and missing:
        ((command, options),) = calls
        assert command[:3] == ["-m", "pip", "install"]
        assert command[-1].endswith("course@v1.2.3") and options == {"check": True}
    else:
        assert calls == []


def test_pair_is_written_once_and_again_only_when_it_differs(source):
    assert sources.write_pair(source)
    pair = sources.pair_path(source)
    stamp = pair.stat().st_mtime_ns
    assert not sources.write_pair(source)
    assert pair.stat().st_mtime_ns == stamp
    assert sources.pair_in_step(source)
    pair.write_text(pair.read_text().replace("x = 1", "x = 2"))
    assert not sources.pair_in_step(source)
    assert sources.write_pair(source) and sources.pair_in_step(source)


def test_failed_write_leaves_the_old_file_and_nothing_else(source, monkeypatch):
    sources.write_pair(source)
    before = sources.pair_path(source).read_bytes()
    source.write_text(SOURCE + "\n# %%\nnew = 1\n")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        sources.write_pair(source)
    assert sources.pair_path(source).read_bytes() == before
    assert sorted(file.suffix for file in source.parent.iterdir()) == [".ipynb", ".py"]


def test_unknown_markdown_names_file_and_cell(checkout):
    source = checkout.add("1_new", "# %% [markdown]\n# # Title\n# {newrole}`x`\n")
    with pytest.raises(MystError, match=r"1_new\.py, cell that begins '# Title': role \{newrole\}"):
        sources.learner_notebook(source)


def test_gpu_cell_has_a_guard_in_the_learners_notebook_only(source):
    site, learner = sources.read_source(source), sources.learner_notebook(source)
    assert site.cells[-1].source == "import torch"
    assert "if not torch.cuda.is_available():" in learner.cells[-1].source
    digests = {records.source_digest(book.cells[-1].source) for book in (site, learner)}
    assert digests == {records.source_digest("import torch")}


def test_gpu_cell_that_cannot_be_guarded_is_named(checkout):
    source = checkout.add("1_gpu", '# %% tags=["gpu"] name="big"\nx = 1\nx\n')
    with pytest.raises(RecordError, match=r"1_gpu\.py, gpu cell 'big': it ends with a bare value"):
        sources.learner_notebook(source)


def test_gpu_cell_without_a_name_is_refused(checkout):
    source = checkout.add("1_gpu", '# %% tags=["gpu"]\nstep()\n')
    with pytest.raises(RecordError, match="has no name"):
        sources.read_source(source)


def test_missing_address_says_where_to_set_it(checkout, source):
    checkout.write("_config.yml", "title: x\n")
    with pytest.raises(project.ProjectError, match="repository.url"):
        sources.learner_notebook(source)


def test_exercise_markers_become_cells_and_solutions_stay_out(checkout):
    source = checkout.add("1_ex", "# %% [markdown]\n# {{exercise 119.2.lion}}\n")
    site = sources.notebook_text(sources.read_source(source))
    learner = sources.notebook_text(sources.learner_notebook(source))
    assert "NotImplementedError" in site and "NotImplementedError" in learner
    assert "{solution}" in site and "{{exercise" not in site
    assert len(learner) < len(site)


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
