"""Sphinx extension of the site: executed pages, launch buttons, published notebooks, directives.

Named in ``_config.yml`` among the extensions; used by the site build only.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from dlcourse import devices
from dlcourse.build import bibliography, learner, sources
from dlcourse.build.results import EXECUTED
from dlcourse.build.site import cells, contents, numbers
from dlcourse.build.site.diagrams import Diagram
from dlcourse.build.site.directives import COMMIT, GENERATED
from dlcourse.build.site.errata import Corrections, Errata
from dlcourse.build.site.exercises import Exercise, Solution
from dlcourse.build.site.landing import Chapters, Shown
from dlcourse.build.site.links import Repository, launch_group, source_edit_url
from dlcourse.build.site.predictions import PredictionForm
from dlcourse.build.site.status import Records, Status, Systems
from dlcourse.files import write_atomic, write_if_changed

UNSAID = ("sphinx-mathjax-offline", "sphinx_jupyterbook_latex", "sphinx_multitoc_numbering")
LOGGER = logging.getLogger(__name__)
DIRECTIVES = {
    "chapters": Chapters,
    "corrections": Corrections,
    "diagram": Diagram,
    "errata": Errata,
    "exercise": Exercise,
    "prediction": PredictionForm,
    "records": Records,
    "shown": Shown,
    "solution": Solution,
    "status": Status,
    "systems": Systems,
}


def is_notebook(app: Sphinx, docname: str) -> bool:
    """Whether a page is a chapter's notebook: its jupytext source lies beside it."""
    return Path(app.srcdir, docname + ".py").is_file()


def find_commit(root: Path, default: str) -> str:
    """The commit the site is built from; ``default`` where there is no git repository.

    ``DLCOURSE_COMMIT`` overrides what git says.
    """
    if commit := os.environ.get("DLCOURSE_COMMIT"):
        return commit
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return git.stdout.strip() if git.returncode == 0 else default


def use_all_cores(app: Sphinx, config: Config) -> None:
    """Read and write pages in parallel: Jupyter Book has no option for it.

    Three extensions do not say that they allow it, and do: what they add is for LaTeX, for a
    numbering that ``_config.yml`` leaves off, and files of the finished site.
    """
    app.parallel = devices.available_cores()
    for name in UNSAID:
        if name in app.extensions:
            app.extensions[name].parallel_read_safe = True


def gather_bibliography(app: Sphinx, config: Config) -> None:
    """Write the chapters' bibliographies as one file, which sphinxcontrib.bibtex then reads."""
    path = GENERATED / "references.bib"
    entries = bibliography.gather(Path(app.srcdir)).values()
    write_if_changed(Path(app.srcdir, path), "\n\n".join(entries) + "\n")
    config.bibtex_bibfiles = [path.as_posix()]  # type: ignore[attr-defined]


def find_repository(app: Sphinx) -> None:
    """Derive every public link's parts from the one address in ``_config.yml``."""
    options = app.config.html_theme_options
    branch = options["repository_branch"]
    app.course_repository = Repository(  # type: ignore[attr-defined]
        url=options["repository_url"], branch=branch, commit=find_commit(Path(app.srcdir), branch)
    )
    write_if_changed(Path(app.srcdir, COMMIT), app.course_repository.commit)


def _digest(files: Iterable[Path]) -> str:
    """Of the contents of files."""
    digest = hashlib.sha256()
    for file in sorted(files):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def reread_pages(
    app: Sphinx, env: BuildEnvironment, added: set, changed: set, removed: set
) -> list[str]:
    """All pages once this extension has changed: it makes what is read."""
    state = _digest(Path(__file__).parent.glob("*.py"))
    before, env.course_code = getattr(env, "course_code", None), state  # type: ignore
    return sorted(env.found_docs) if state != before else []


def rewritten_pages(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """All pages once something that is on each of them has changed; reading them can be spared.

    That is the commit, which the buttons name; the style and the scripts; the list of pages.
    """
    root = Path(app.srcdir)
    commit = app.course_repository.commit  # type: ignore[attr-defined]
    state = commit + _digest([*root.glob("book/static/*"), root / "_toc.yml"])
    before, env.course_state = getattr(env, "course_state", None), state  # type: ignore
    return sorted(env.found_docs) if state != before else []


def use_executed(app: Sphinx, docname: str, source: list[str]) -> None:
    """Show the executed copy of a notebook in place of its committed, output-free one."""
    if not is_notebook(app, docname):
        return
    executed = Path(app.srcdir, EXECUTED, docname + ".ipynb")
    app.env.note_dependency(str(executed))
    if not executed.is_file():
        LOGGER.warning("not executed: run `dlcourse run` first", location=docname)
        return
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    source[0] = json.dumps(cells.prepare(notebook), ensure_ascii=False)


def list_exercises(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document
) -> None:
    """Put the exercises of a page into its contents list."""
    if doctree is not None and "toc" in context:
        context["toc"] = contents.with_exercises(context["toc"], doctree)


def fix_page(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document
) -> None:
    """Give notebook pages their launch, download and edit buttons."""
    if not is_notebook(app, pagename):
        return
    repository: Repository = app.course_repository  # type: ignore[attr-defined]
    buttons: list[dict[str, Any]] = context["header_buttons"]
    for group in buttons:
        for button in group.get("buttons", []):
            if button.get("label") == "source-edit-button":
                button["url"] = source_edit_url(repository, pagename)
            elif button.get("label") == "download-source-button":
                button["url"] = context["pathto"](f"notebooks/{pagename}.ipynb", 1)
                button["tooltip"] = "Download this notebook"
    buttons.insert(0, launch_group(repository, pagename))


def publish_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Copy the learner's notebooks into the site, stamped with the commit of the pages.

    The Colab button opens these copies, so that a page, its notebook and the package which the
    notebook installs are of one commit.
    """
    if error or app.builder.name != "html":
        return
    commit = app.course_repository.commit  # type: ignore[attr-defined]
    for docname in sorted(app.env.found_docs):
        if is_notebook(app, docname):
            notebook = nbformat.read(Path(app.srcdir, docname + ".ipynb"), as_version=4)
            text = sources.notebook_text(learner.stamp(notebook, commit))
            write_atomic(Path(app.outdir, "notebooks", docname + ".ipynb"), text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the hooks and directives with Sphinx."""
    for name, directive in DIRECTIVES.items():
        app.add_directive(name, directive)
    app.add_js_file("course.js", loading_method="defer")
    app.connect("config-inited", use_all_cores)
    app.connect("config-inited", gather_bibliography)
    app.connect("builder-inited", find_repository)
    app.connect("env-get-outdated", reread_pages)
    app.connect("env-get-updated", rewritten_pages)
    app.connect("source-read", use_executed)
    app.connect("env-get-updated", numbers.restore_numbers, priority=400)
    app.connect("env-get-updated", numbers.number_within_pages, priority=600)
    app.connect("html-page-context", list_exercises, priority=400)  # the theme renders the list
    app.connect("html-page-context", fix_page, priority=900)  # after sphinx-book-theme
    app.connect("build-finished", publish_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
