"""Sphinx extension of the site: executed pages, launch buttons, published notebooks, two tables.

Named in ``_config.yml`` under ``local_extensions``; used by the site build only.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import nbformat
from dlcourse.build.site.links import Repository, launch_group, source_edit_url
from dlcourse.build.site.tables import ErrataTable, StatusTable
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from dlcourse.build import learner, sources
from dlcourse.files import write_atomic

LOGGER = logging.getLogger(__name__)
EXECUTED = Path("_build/executed")


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


def find_repository(app: Sphinx) -> None:
    """Derive every public link's parts from the one address in ``_config.yml``."""
    options = app.config.html_theme_options
    branch = options["repository_branch"]
    app.course_repository = Repository(  # type: ignore[attr-defined]
        url=options["repository_url"], branch=branch, commit=find_commit(Path(app.srcdir), branch)
    )


def outdated_pages(
    app: Sphinx, env: BuildEnvironment, added: set, changed: set, removed: set
) -> list[str]:
    """All pages once the commit has changed: their links name it."""
    commit = app.course_repository.commit  # type: ignore[attr-defined]
    before, env.course_commit = getattr(env, "course_commit", commit), commit  # type: ignore
    return sorted(env.found_docs) if commit != before else []


def use_executed(app: Sphinx, docname: str, source: list[str]) -> None:
    """Show the executed copy of a notebook in place of its committed, output-free one."""
    if not is_notebook(app, docname):
        return
    executed = Path(app.srcdir, EXECUTED, docname + ".ipynb")
    app.env.note_dependency(str(executed))
    if not executed.is_file():
        LOGGER.warning("not executed: run `dlcourse run` first", location=docname)
        return
    source[0] = executed.read_text(encoding="utf-8")


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
    app.add_directive("errata", ErrataTable)
    app.add_directive("status", StatusTable)
    app.connect("builder-inited", find_repository)
    app.connect("env-get-outdated", outdated_pages)
    app.connect("source-read", use_executed)
    app.connect("html-page-context", fix_page, priority=900)  # after sphinx-book-theme
    app.connect("build-finished", publish_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
