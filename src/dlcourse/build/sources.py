"""The site's notebook of one ``py:percent`` source: every cell, and MyST Markdown as written."""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlcourse.build import project
from dlcourse.notebook.records import RecordError, kind_of

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_MARKER = re.compile(r"^# \{\{\s*(?:exercise|quiz)\s", re.MULTILINE)


def set_cell_ids(notebook: Any) -> None:
    """Give each cell an id made from its content: an edit changes the ids of edited cells only."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell["id"] = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def recorded_cells(notebook: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The cells that are recorded (tags ``gpu`` and ``long``), by their ``name``, in order.

    Raises RecordError when such a cell is not plain Python, has both tags, has no name, or shares
    its name with another.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for index, cell in enumerate(notebook["cells"]):
        kind = kind_of(cell)
        if kind is None:
            continue
        first_line = (cell["source"].strip().splitlines() or [""])[0]
        where = f"cell {index} ({first_line!r}) is tagged {kind}"
        if cell["cell_type"] != "code":
            raise RecordError(f"{where} but is not a code cell; remove the tag")
        if {"gpu", "long"} <= set(cell["metadata"]["tags"]):
            raise RecordError(f"{where} and long; a cell that needs a GPU is tagged gpu alone")
        name = cell["metadata"].get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
            raise RecordError(
                f"{where} but has no name, which its record needs; "
                f'begin the cell with: # %% tags=["{kind}"] name="a-name"'
            )
        if name in found:
            raise RecordError(f"{where} and its name {name!r} is taken by an earlier cell")
        try:
            ast.parse(cell["source"])
        except SyntaxError as error:
            raise RecordError(f"{where} but is not plain Python ({error.msg})") from None
        found[name] = cell
    return found


def read_source(source: str | os.PathLike[str], root: Path | None = None) -> Any:
    """The site's notebook of a ``.py`` source (nbformat 4.5, no outputs, deterministic ids).

    Exercises and quizzes that it names, as in ``{{exercise 119.2.lion}}``, are put in their places.
    A recorded cell gets the key of its record, such as ``119.2.step-time``, as metadata.

    Raises FileNotFoundError, and RecordError when a recorded cell has no name of its own.
    """
    import jupytext
    import nbformat

    source = Path(source).resolve()
    root = root or project.find_root(source.parent)
    text = source.read_text(encoding="utf8")
    notebook = jupytext.reads(text, fmt="py:percent")
    if _MARKER.search(text):
        from dlcourse.build.exercise_cells import expand  # loads the exercises

        notebook.cells = expand(notebook.cells)
    section = project.section_of(root, source)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": KERNEL,
            "language_info": {"name": "python"},
            "dlcourse": {"section": section},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for name, cell in recorded_cells(notebook).items():
        cell["metadata"]["dlcourse"] = {"record": f"{section}.{name}"}
    set_cell_ids(notebook)
    return notebook


def title_of(notebook: Any) -> str | None:
    """Text of the first heading of a notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            match = re.search(r"^#{1,6}\s+(.+?)\s*$", cell.source, re.MULTILINE)
            if match:
                return match.group(1)
    return None


def notebook_text(notebook: Any) -> str:
    """A notebook as the bytes of its file: validated, indented by 1, with a last newline."""
    import nbformat

    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"
