"""From one ``py:percent`` source: the site's notebook and the learner's.

The site's notebook has every cell and MyST Markdown as written. The learner's ``.ipynb`` lies
beside its source, output-free: it begins with a cell that installs the package on Colab, has plain
Markdown, passes over the gpu cells where there is no GPU, and has neither solutions nor what only
the site can show.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
from pathlib import Path
from typing import Any

from dlcourse.build import bibliography, myst, project
from dlcourse.files import write_if_changed
from dlcourse.build.guard import GuardError, guarded
from dlcourse.build.records import GPU_TAG, RecordError, gpu_cells, has_tag

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LEFT_OUT_TAGS = ("solution", "site-only")
SETUP_TAG = "setup"
_MARKER = re.compile(r"^# \{\{\s*(?:exercise|quiz)\s", re.MULTILINE)

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


def set_cell_ids(notebook: Any) -> None:
    """Give each cell an id made from its content: an edit changes the ids of edited cells only."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell["id"] = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def read_source(source: str | Path) -> Any:
    """The site's notebook of a ``.py`` source (nbformat 4.5, no outputs, deterministic ids).

    Exercises and quizzes that it names, as in ``{{exercise 119.2.lion}}``, are put in their places.

    Raises FileNotFoundError, and RecordError when a gpu cell has no name of its own.
    """
    import jupytext
    import nbformat

    source = Path(source)
    text = source.read_text(encoding="utf8")
    notebook = jupytext.reads(text, fmt="py:percent")
    if _MARKER.search(text):
        from dlcourse.build.exercise_cells import expand  # loads the chapter's exercises

        notebook.cells = expand(notebook.cells)
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    set_cell_ids(notebook)
    gpu_cells(notebook)  # raises when one cannot be named
    return notebook


def title_of(notebook: Any) -> str | None:
    """Text of the first heading of a notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            match = re.search(r"^#{1,6}\s+(.+?)\s*$", cell.source, re.MULTILINE)
            if match:
                return match.group(1)
    return None


def _markdown_of(path: Path) -> str:
    text = path.read_text(encoding="utf8")
    if path.suffix == ".md":
        return text
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)
    markdown = (cell.partition("\n")[2] for cell in cells if cell.lstrip().startswith("[markdown]"))
    return "\n\n".join(re.sub(r"^# ?", "", cell, flags=re.MULTILINE) for cell in markdown)


def _context(root: Path, source: Path, strict: bool) -> myst.Context:
    """What the Markdown of ``source`` can refer to: labels and titles of the book, its works."""
    context = myst.Context(
        document=source.relative_to(root).with_suffix("").as_posix(),
        works=lambda: bibliography.works(root),
        strict=strict,
    )
    pages = [*root.glob("book/**/*.md"), *root.glob("chapters/*/*.md")]
    for page in sorted([*pages, *root.glob("chapters/*/*.py")]):
        document = page.relative_to(root).with_suffix("").as_posix()
        title, labels = myst.scan_labels(_markdown_of(page), document)
        context.labels.update(labels)
        context.titles[document] = title or page.stem
    return context


def _figure_metadata(cell: Any) -> dict[str, str]:
    return cell.metadata.get("mystnb", {}).get("figure", {}) if cell.cell_type == "code" else {}


def _setup_cell(root: Path, source: Path, ref: str) -> Any:
    from nbformat.v4 import new_code_cell

    extra = project.extra_of(root, source)
    name = f"dlcourse[{extra}]" if extra else "dlcourse"
    requirement = f"{name} @ git+{project.repository_url(root)}@{ref}"
    cell = new_code_cell(_SETUP.format(requirement=requirement))
    cell.metadata.update({"tags": [SETUP_TAG], "dlcourse": {"ref": ref}})
    return cell


def learner_notebook(
    source: str | Path, root: str | Path | None = None, strict: bool = True
) -> Any:
    """The learner's notebook of a ``.py`` source.

    Its setup cell names the release of pyproject.toml; ``stamp`` makes a copy that names a commit.

    Raises:
        MystError: Markdown with a role, directive, label or citation that has no plain form
            (unless ``strict`` is false).
        RecordError: a gpu cell can't be passed over where there is no GPU (see ``guard``).
        ProjectError: _config.yml has no ``repository.url``.
    """
    from nbformat.v4 import new_markdown_cell

    source = Path(source).resolve()
    root = Path(root).resolve() if root else project.find_root(source.parent)
    notebook = read_source(source)
    context = _context(root, source, strict)
    for cell in notebook.cells:  # numbers first: a sentence may refer to a later figure
        if cell.cell_type == "markdown":
            myst.collect(cell.source, context)
        elif (figure := _figure_metadata(cell)).get("name"):
            context.figures.setdefault(figure["name"], len(context.figures) + 1)

    ref = f"v{project.pyproject(root)['version']}"
    cells = [_setup_cell(root, source, ref)]
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
        if has_tag(cell, GPU_TAG):
            try:
                cell.source = guarded(cell.source)
            except GuardError as error:
                name = cell.metadata["name"]
                raise RecordError(f"{source.name}, gpu cell {name!r}: {error}") from None
        cells.append(cell)
        figure = _figure_metadata(cell)
        if figure.get("caption"):
            number = context.figures.get(figure.get("name", ""))
            head = f"**Figure {number}.** " if number else ""
            cells.append(new_markdown_cell(head + myst.flatten(figure["caption"], context)))
            del cell.metadata["mystnb"]["figure"]  # MyST again, and shown already
    notebook.cells = cells
    set_cell_ids(notebook)
    return notebook


def notebook_text(notebook: Any) -> str:
    """A notebook as the bytes of its file: validated, indented by 1, with a last newline."""
    import nbformat

    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


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
    """Write the learner's ``.ipynb`` beside a source, if it differs. True if it was written."""
    return write_if_changed(pair_path(source), notebook_text(learner_notebook(source, root)))
