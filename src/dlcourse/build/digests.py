"""Digests of a recorded cell: of what it says, and of the package's code that it reaches.

A record is of older code when one of them differs. So both leave out what does not matter:
comments and docstrings, definitions of the notebook that the cell does not use, and modules that
it does not reach.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from collections.abc import Iterator, Sequence

from dlcourse.build.reach import Package, code_text


def _names(node: ast.AST) -> set[str]:
    """All names that occur in a piece of code."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement of a notebook's cell defines."""
    found: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(a.asname or a.name).partition(".")[0] for a in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def used_statements(definitions: Sequence[str], cell: str) -> list[str]:
    """The statements of the definition cells that ``cell`` needs, directly or through others.

    A statement that defines nothing, such as a call that sets a precision, counts always. Of an
    import that brings several names only the used ones stay.
    """
    statements = [
        (part, text)
        for text in definitions
        for part in ast.parse(text).body
        if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
    ]
    needed = _names(ast.parse(cell)) - set(dir(builtins))
    used: set[int] = set()
    while True:
        more = {
            i
            for i, (part, _) in enumerate(statements)
            if i not in used and (not _bound(part) or _bound(part) & needed)
        }
        if not more:
            break
        used |= more
        for i in more:
            needed |= _names(statements[i][0])
    return [_segment(*statements[i], needed) for i in sorted(used)]


def _segment(statement: ast.stmt, text: str, needed: set[str]) -> str:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        kept = [
            a for a in statement.names if (a.asname or a.name).partition(".")[0] in needed
        ]  # never empty: the statement is there for one of them
        if isinstance(statement, ast.Import):
            return ast.unparse(ast.Import(names=kept))
        return ast.unparse(ast.ImportFrom(statement.module, kept, statement.level))
    return ast.get_source_segment(text, statement) or ""


def _sha256(parts: Iterator[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf8")).hexdigest()


def cell_digest(definitions: Sequence[str], cell: str) -> str:
    """SHA-256 of a cell's code and of the definitions that it uses."""
    used = used_statements(definitions, cell)
    return _sha256(code_text(part) for part in [*used, cell])


def code_digest(package: Package, definitions: Sequence[str], cell: str) -> str:
    """SHA-256 of the package's code that a cell reaches."""
    source = "\n".join([*used_statements(definitions, cell), cell])
    reached = package.reach(package.imports_of(ast.parse(source)))
    return package.digest(reached.modules, code_only=True)
