"""The key of an executed notebook: a digest of all that its outputs depend on, and of no more.

It is made from the notebook's own text (exercises and quizzes put in), the modules of the package
that it reaches, the installed versions of the libraries that these use, and the records that it
shows or reads. Notebooks with the key of their last run are not run again.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from dlcourse.build.reach import Imports, Package, distributions
from dlcourse.build.staleness import RecordState
from dlcourse.notebook import records
from dlcourse.notebook.records import CellRecord

# What executes a notebook, beside the notebook's own imports.
_MACHINERY = "import IPython, ipykernel, matplotlib_inline, nbclient, dlcourse.build.engine"
_READ = re.compile(r"[\"'](\d+\.\d+[a-z]?\.[\w-]*)")  # how a record's key begins: f"119.2.{name}"
_EXERCISE = re.compile(r"\b(?:check|quiz)\(\s*[\"']([\w.-]+)[\"']")


def code_of(notebook: Any) -> list[str]:
    """The source of each code cell, without lines that are IPython's and not Python's."""
    sources = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    return [re.sub(r"(?m)^[%!].*$", "", source) for source in sources]


def _trees(source: str) -> Iterator[ast.AST]:
    """The syntax tree of a cell, and of programs that stand in it as strings."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a cell that shows an error
        return
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if "dlcourse" in node.value and "import" in node.value:
                try:
                    yield ast.parse(textwrap.dedent(node.value))
                except SyntaxError:  # a sentence, not a program
                    continue


def imports_of(notebook: Any, package: Package) -> Imports:
    """What a notebook reaches: its imports, and the files of its exercises and quizzes."""
    modules: set[str] = set()
    libraries: set[str] = set()
    code = code_of(notebook)
    for source in [*code, _MACHINERY]:
        for tree in _trees(source):
            found = package.imports_of(tree)
            modules |= found.modules
            libraries |= found.libraries
    for key in {key for source in code for key in _EXERCISE.findall(source)}:
        modules |= _exercise_modules(key) & set(package.files)
    return package.reach(Imports(frozenset(modules), frozenset(libraries)))


def _exercise_modules(key: str) -> set[str]:
    from dlcourse.exercises import registry

    try:
        name = registry.modules(key.partition(".")[0])[key]
    except LookupError:  # no such exercise: the cell itself will say so
        return set()
    return {name, name.rpartition(".")[0], name.split(".exercises.")[0] + ".exercises"}


@lru_cache(maxsize=256)
def _versions(libraries: frozenset[str]) -> tuple[tuple[str, str], ...]:
    return tuple(distributions(libraries).items())


def _read_records(start: str) -> dict[str, CellRecord]:
    """The records whose key begins with ``start``, by name."""
    section, _, beginning = start.rpartition(".")
    try:
        found = records.read_records(records.installed_records(*section.split(".")))
    except records.RecordError:  # the cell that reads it will say so
        return {}
    return {name: record for name, record in found.items() if name.startswith(beginning)}


def notebook_key(notebook: Any, package: Package, states: Mapping[str, RecordState]) -> str:
    """SHA-256 of all that the executed notebook depends on.

    Args:
        notebook: the site's notebook (``sources.read_source``).
        package: the source files of the package.
        states: of its own recorded cells, by key.
    """
    reached = imports_of(notebook, package)
    read = sorted({key for source in code_of(notebook) for key in _READ.findall(source)})
    style = package.folder / "dlcourse" / "notebook" / "course.mplstyle"
    parts: dict[str, Any] = {
        "notebook": [
            (cell.cell_type, cell.source, _plain(cell.metadata)) for cell in notebook.cells
        ],
        "modules": package.digest(reached.modules, code_only=False),
        "style": style.read_text(encoding="utf8") if style.is_file() else None,
        "versions": _versions(reached.libraries),
        "python": sys.version_info[:3],
        "shown": [[key, _as_dict(s.record), s.changed] for key, s in sorted(states.items())],
        "read": [
            [start, {name: asdict(record) for name, record in _read_records(start).items()}]
            for start in read
        ],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _as_dict(record: CellRecord | None) -> dict[str, Any] | None:
    return asdict(record) if record else None


def _plain(metadata: Any) -> str:
    return json.dumps(metadata, sort_keys=True, default=str)


def reached_modules(source: Path, root: Path, package: Package | None = None) -> frozenset[str]:
    """The modules of the package that a source's notebook reaches."""
    from dlcourse.build.sources import read_source

    return imports_of(read_source(source, root), package or Package(root)).modules
