"""The learner's notebook of a source: what JupyterLab and Colab open.

It lies beside its source, without outputs. It begins with a cell that installs the package on
Colab, has plain Markdown, and has neither solutions nor what only the site can show. A recorded
cell begins with ``%%recorded``: "Run All" passes over it and shows its record.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from dlcourse.build import bibliography, drawings, myst, project
from dlcourse.build.sources import notebook_text, read_source, recorded_cells, set_cell_ids
from dlcourse.files import keep_copy, kept_note, write_atomic
from dlcourse.notebook.records import has_tag

LEFT_OUT_TAGS = ("solution", "site-only")
SETUP_TAG = "setup"

_SETUP = """\
# On Google Colab this installs the package that this notebook was made with.
# Anywhere else it does nothing: install the package named below once, with pip.
import importlib.util
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("dlcourse") is None:
    import subprocess

    package = "{requirement}"
    command = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*command, package], check=True)"""
_RECORDED = """

# For the cells that begin with %%recorded: they need a GPU, or minutes. "Run All" passes over them
# and shows what they gave when they were recorded; who runs one of them by hand runs it.
%load_ext dlcourse.notebook"""


def _markdown_of(path: Path) -> str:
    text = path.read_text(encoding="utf8")
    if path.suffix == ".md":
        return text
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)
    markdown = (cell.partition("\n")[2] for cell in cells if cell.lstrip().startswith("[markdown]"))
    return "\n\n".join(re.sub(r"^# ?", "", cell, flags=re.MULTILINE) for cell in markdown)


def _context(root: Path, source: Path) -> myst.Context:
    """What the Markdown of ``source`` can refer to: pages and labels of the book, its works."""
    context = myst.Context(
        document=source.relative_to(root).with_suffix("").as_posix(),
        works=lambda: bibliography.works(root),
        drawing=lambda path, alt: drawings.markdown_image(
            (source.parent / path).read_text(encoding="utf8"), alt
        ),
    )
    for page in sorted([*root.glob("book/**/*.md"), *root.glob("chapters/*/*.py")]):
        if project.is_hidden(page.relative_to(root)):
            continue
        document = page.relative_to(root).with_suffix("").as_posix()
        context.documents.add(document)
        labels = _labels(page, page.stat().st_mtime_ns)
        context.labels.update(dict.fromkeys(labels, document))
    return context


@lru_cache(maxsize=256)  # all pages are read for each notebook
def _labels(page: Path, mtime: int) -> list[str]:
    return myst.heading_labels(_markdown_of(page))


def _figure_metadata(cell: Any) -> dict[str, str]:
    return cell.metadata.get("mystnb", {}).get("figure", {}) if cell.cell_type == "code" else {}


def _setup_cell(root: Path, source: Path, ref: str, recorded: bool) -> Any:
    from nbformat.v4 import new_code_cell

    extra = project.extra_of(root, source)
    name = f"dlcourse[{extra}]" if extra else "dlcourse"
    requirement = f"{name} @ git+{project.repository_url(root)}@{ref}"
    cell = new_code_cell(_SETUP.format(requirement=requirement) + (_RECORDED if recorded else ""))
    cell.metadata.update({"tags": [SETUP_TAG], "dlcourse": {"ref": ref}})
    return cell


def learner_notebook(source: str | Path, root: str | Path | None = None) -> Any:
    """The learner's notebook of a ``.py`` source.

    Its setup cell names the release of pyproject.toml; ``stamp`` makes a copy that names a commit.

    Raises:
        MystError: Markdown with a role, directive, label or citation that has no plain form.
        ProjectError: _config.yml has no ``repository.url``.
    """
    from nbformat.v4 import new_markdown_cell

    source = Path(source).resolve()
    root = Path(root).resolve() if root else project.find_root(source.parent)
    notebook = read_source(source, root)
    context = _context(root, source)
    for cell in notebook.cells:  # numbers first: a sentence may refer to a later figure
        if cell.cell_type == "markdown":
            myst.collect(cell.source, context)
        elif (figure := _figure_metadata(cell)).get("name"):
            context.figures.setdefault(figure["name"], len(context.figures) + 1)

    ref = f"v{project.pyproject(root)['version']}"
    cells = [_setup_cell(root, source, ref, recorded=bool(recorded_cells(notebook)))]
    for cell in notebook.cells:
        if any(has_tag(cell, tag) for tag in LEFT_OUT_TAGS):
            continue
        if cell.cell_type == "markdown":
            try:
                cell.source = myst.flatten(cell.source, context)
            except myst.MystError as error:
                first = (cell.source.strip().splitlines() or [""])[0]
                raise myst.MystError(
                    f"{source.name}, cell that begins {first!r}: {error}"
                ) from None
        if cell.cell_type == "markdown" and not cell.source.strip():
            continue
        if key := cell.metadata.get("dlcourse", {}).get("record"):
            cell.source = f"%%recorded {key}\n{cell.source}"
        cells.append(cell)
        figure = _figure_metadata(cell)
        if figure.get("caption"):
            number = context.figures.get(figure.get("name", ""))
            head = f"**Figure {number}.** " if number else ""
            cells.append(new_markdown_cell(head + myst.flatten(figure["caption"], context)))
            del cell.metadata["mystnb"]["figure"]  # MyST again, and shown already
    notebook.cells = cells
    set_cell_ids(notebook)
    notebook.metadata["dlcourse"]["edition"] = edition(notebook)
    return notebook


def edition(notebook: Mapping[str, Any]) -> str:
    """A short name of what a learner's notebook says; its metadata carry that of its making.

    The release or commit that the first cell installs does not count.
    """
    cells = [
        (cell["cell_type"], "".join(cell["source"]))
        for cell in notebook["cells"]
        if not has_tag(cell, SETUP_TAG)
    ]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:12]


def is_untouched(text: str) -> bool:
    """Whether a notebook's text is as it was made: no cell was edited, and none was run."""
    try:
        notebook = json.loads(text)
        ours = notebook["metadata"]["dlcourse"]["edition"] == edition(notebook)
        return ours and not any(cell.get("outputs") for cell in notebook["cells"])
    except (ValueError, KeyError, TypeError):
        return False


def stamp(notebook: Any, ref: str) -> Any:
    """A copy of a learner's notebook whose setup cell installs ``ref`` (a commit or a tag).

    Raises ValueError when the notebook has no setup cell, or ``ref`` is not a git reference.
    """
    if not re.fullmatch(r"[\w./-]+", ref):
        raise ValueError(f"{ref!r} is not a commit or a tag")
    stamped = copy.deepcopy(notebook)
    for cell in stamped.cells:
        if has_tag(cell, SETUP_TAG):
            old = cell.metadata["dlcourse"]["ref"]
            cell.source = cell.source.replace(f'@{old}"', f'@{ref}"')
            cell.metadata["dlcourse"]["ref"] = ref
            set_cell_ids(stamped)
            return stamped
    raise ValueError("this is not a learner's notebook: it has no setup cell")


def pair_path(source: str | os.PathLike[str]) -> Path:
    """The learner's ``.ipynb`` beside a source."""
    return Path(source).with_suffix(".ipynb")


def pair_in_step(source: str | Path, root: str | Path | None = None) -> bool:
    """Whether the ``.ipynb`` beside a source is what ``write_pair`` would write."""
    path = pair_path(source)
    expected = notebook_text(learner_notebook(source, root)).encode("utf8")
    return path.exists() and path.read_bytes() == expected


def write_pair(source: str | Path, root: str | Path | None = None) -> bool:
    """Write the learner's ``.ipynb`` beside a source, if it differs. True if it was written.

    Where a person has edited or run the one that is there, it is kept as a dated copy beside it,
    and the standard error output says so.
    """
    path, text = pair_path(source), notebook_text(learner_notebook(source, root))
    old = path.read_text(encoding="utf8") if path.exists() else None
    if old == text:
        return False
    if old is not None and not is_untouched(old):
        print(f"dlcourse: {kept_note(path, keep_copy(path))}", file=sys.stderr)
    write_atomic(path, text)
    return True
