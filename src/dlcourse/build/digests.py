"""Digests of a recorded cell: of what it says, and of the package's code that it reaches.

A record is of older code when one of them differs. So both leave out what does not matter:
comments and docstrings, definitions of the notebook that the cell does not use, and modules that
it does not reach.
"""

from __future__ import annotations

import ast
import hashlib
import symtable
from collections.abc import Iterator, Sequence
from functools import lru_cache

from dlcourse.build.reach import Package, code_text


def _names(code: str) -> tuple[set[str], set[str]]:
    """The notebook's names that a piece of a cell reads, and those that it defines.

    What is local to a function is neither.
    """
    top = symtable.symtable(code, "<cell>", "exec")
    reads: set[str] = set()
    defines: set[str] = set()
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if table is not top and not symbol.is_global():
                continue
            if symbol.is_referenced():
                reads.add(symbol.get_name())
            if symbol.is_assigned() or symbol.is_imported():
                defines.add(symbol.get_name())
    changed = (n.target for n in ast.walk(ast.parse(code)) if isinstance(n, ast.AugAssign))
    return reads | {t.id for t in changed if isinstance(t, ast.Name) and t.id in defines}, defines


def used_statements(definitions: Sequence[str], cell: str) -> list[str]:
    """The statements of the definition cells that ``cell`` needs, directly or through others.

    A statement that defines nothing, such as a call that sets a precision, counts always. Of an
    import that brings several names only the used ones stay.
    """
    statements = [statement for text in definitions for statement in _statements(text)]
    needed = _names(cell)[0]
    used: set[int] = set()
    while True:
        more = {
            i
            for i, statement in enumerate(statements)
            if i not in used and (not statement.defines or statement.defines & needed)
        }
        if not more:
            break
        used |= more
        for i in more:
            needed |= statements[i].reads
    return [statements[i].cut(needed) for i in sorted(used)]


class _Statement:
    """One statement of a definition cell, with the names that it reads and defines."""

    def __init__(self, node: ast.stmt, text: str) -> None:
        self.node, self.text = node, text
        self.reads, self.defines = _names(text)

    def cut(self, needed: set[str]) -> str:
        """The statement's text; of an import only the names that are needed."""
        if not isinstance(self.node, (ast.Import, ast.ImportFrom)) or not self.defines:
            return self.text
        names = [a for a in self.node.names if (a.asname or a.name).partition(".")[0] in needed]
        if isinstance(self.node, ast.Import):
            return ast.unparse(ast.Import(names))
        return ast.unparse(ast.ImportFrom(self.node.module, names, self.node.level))


@lru_cache(maxsize=512)  # all recorded cells of a page have the same definitions above them
def _statements(text: str) -> tuple[_Statement, ...]:
    """The statements of a definition cell, without its docstrings."""
    return tuple(
        _Statement(part, _segment(part, text))
        for part in ast.parse(text).body
        if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
    )


def _segment(node: ast.stmt, text: str) -> str:
    """The text of a statement, with its decorators."""
    segment = ast.get_source_segment(text, node) or ""
    if decorators := getattr(node, "decorator_list", []):
        first = min(decorator.lineno for decorator in decorators)
        return "\n".join([*text.split("\n")[first - 1 : node.lineno - 1], segment])
    return segment


def _computes_nothing(module: str) -> bool:
    carriers = ("dlcourse", "dlcourse._torchvision", "dlcourse.chapters", "dlcourse.notebook")
    return module in carriers or module.startswith("dlcourse.notebook.")


def _sha256(parts: Iterator[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf8")).hexdigest()


def cell_digest(definitions: Sequence[str], cell: str) -> str:
    """SHA-256 of a cell's code and of the definitions that it uses."""
    used = used_statements(definitions, cell)
    return _sha256(code_text(part) for part in [*used, cell])


def code_digest(package: Package, definitions: Sequence[str], cell: str) -> str:
    """SHA-256 of the package's code that a cell reaches.

    Left out is what only loads, hands on and shows (the version of the package, the facades'
    machinery, ``dlcourse.notebook``): it computes nothing, and lies under every cell.
    """
    source = "\n".join([*used_statements(definitions, cell), cell])
    reached = package.reach(package.imports_of(ast.parse(source)), _computes_nothing)
    return package.digest(reached.modules, code_only=True)
