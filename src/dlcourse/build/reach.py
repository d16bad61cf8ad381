"""What code a notebook reaches: the modules of the package, and the libraries that they use.

Found by reading: every import statement of the notebook, then of each module that it names, and so
on. A public name of a chapter is followed through the chapter's stub to the one module that
defines it. So an edit to a module concerns the notebooks that reach it, and no others.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

PACKAGE = "dlcourse"


@dataclass(frozen=True)
class Imports:
    """What one piece of code imports: modules of the package, and other top-level modules."""

    modules: frozenset[str]
    libraries: frozenset[str]


class Package:
    """The source files of the package under ``root/src``, and what each imports."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "src"
        self.files: dict[str, Path] = {}
        for file in sorted((self.folder / PACKAGE).rglob("*.py")):
            parts = file.relative_to(self.folder).with_suffix("").parts
            self.files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        self._known: dict[str, Imports] = {}
        self._stubs: dict[str, dict[str, str]] = {}

    def stub(self, module: str) -> dict[str, str]:
        """Where the public names of a lazy package lie, from its ``.pyi``; empty without one."""
        if module not in self._stubs:
            self._stubs[module] = self._read_stub(module)
        return self._stubs[module]

    def _read_stub(self, module: str) -> dict[str, str]:
        file = self.files[module].with_suffix(".pyi")
        if not file.is_file():
            return {}
        found = {}
        for node in ast.parse(file.read_text(encoding="utf8")).body:
            if isinstance(node, ast.ImportFrom):
                origin = f"{module}.{node.module}" if node.module else module
                for alias in node.names:
                    inner = f"{origin}.{alias.name}"
                    found[alias.asname or alias.name] = inner if inner in self.files else origin
        return found

    def imports(self, module: str) -> Imports:
        """What a module of the package imports, in its functions too; not for type checkers."""
        if module not in self._known:
            file = self.files[module]
            package = module if file.name == "__init__.py" else module.rpartition(".")[0]
            tree = ast.parse(file.read_text(encoding="utf8"))
            self._known[module] = self.imports_of(tree, package)
        return self._known[module]

    def imports_of(self, tree: ast.AST, package: str = "") -> Imports:
        """What a piece of code imports; ``package`` is where its relative imports start."""
        modules: set[str] = set()
        libraries: set[str] = set()
        for node in _executed(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.partition(".")[0] == PACKAGE:
                        # The module itself is at hand, and with it all that it offers lazily.
                        modules |= {alias.name, *self._stub_of(alias.name).values()}
                    else:
                        libraries.add(alias.name.partition(".")[0])
            elif isinstance(node, ast.ImportFrom):
                origin = node.module or ""
                if node.level:
                    above = package.split(".")[: len(package.split(".")) - node.level + 1]
                    origin = ".".join([*above, *filter(None, [node.module])])
                if origin.partition(".")[0] != PACKAGE:
                    libraries.add(origin.partition(".")[0])
                    continue
                modules |= {origin, *self._named(origin, [alias.name for alias in node.names])}
        return Imports(frozenset(self._with_parents(modules)), frozenset(libraries))

    def _stub_of(self, module: str) -> dict[str, str]:
        return self.stub(module) if module in self.files else {}

    def _named(self, origin: str, names: Iterable[str]) -> Iterator[str]:
        stub = self._stub_of(origin)
        for name in names:
            if name == "*":
                yield from stub.values()
            elif name in stub:  # also where a folder has the name of the function in it
                yield stub[name]
            elif f"{origin}.{name}" in self.files:
                yield f"{origin}.{name}"
                yield from self._stub_of(f"{origin}.{name}").values()

    def _with_parents(self, modules: Iterable[str]) -> Iterator[str]:
        """The modules with the packages around them, whose ``__init__`` an import runs too."""
        for module in modules:
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                name = ".".join(parts[:end])
                if name in self.files:
                    yield name

    def reach(
        self, start: Imports, passes_over: Callable[[str], bool] = lambda module: False
    ) -> Imports:
        """All modules and libraries that are reached from ``start``.

        Modules that ``passes_over`` tells are left out, with what is reached through them alone.
        """
        modules: set[str] = set()
        libraries = set(start.libraries)
        waiting = list(start.modules)
        while waiting:
            module = waiting.pop()
            if module not in modules and not passes_over(module):
                modules.add(module)
                found = self.imports(module)
                libraries |= found.libraries
                waiting += found.modules
        return Imports(frozenset(modules), frozenset(libraries))

    def digest(self, modules: Iterable[str], *, code_only: bool) -> str:
        """SHA-256 over modules of the package: their files, or only what is code in them."""
        total = hashlib.sha256()
        for module in sorted(modules):
            text = self.files[module].read_text(encoding="utf8")
            content = (code_text(text) if code_only else text).encode("utf8")
            total.update(f"{module}\0{len(content)}\0".encode() + content)
        return total.hexdigest()


_HOLD_STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements of a tree but what stands under ``if TYPE_CHECKING``."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        children = ast.iter_child_nodes(node)
        waiting += [child for child in children if isinstance(child, _HOLD_STATEMENTS)]


@lru_cache(maxsize=512)  # several records reach the same modules
def code_text(source: str) -> str:
    """A program's text without comments, docstrings, empty lines and blanks at the ends of lines.

    Two texts that differ only in these are the same program; lines inside of a string stay as they
    are. Positions in the text are used, not the syntax tree, whose form differs between versions of
    Python.
    """
    lines = source.split("\n")
    inside = set()  # lines that begin within a string
    opened: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (first, column), (last, _) = token.start, token.end
        kind = tokenize.tok_name[token.type]
        if kind == "COMMENT":
            lines[first - 1] = lines[first - 1][:column]
        elif kind == "STRING":
            inside |= set(range(first, last))
        elif kind == "FSTRING_START":  # Python 3.12 and later
            opened.append(first)
        elif kind == "FSTRING_END":
            inside |= set(range(opened.pop(), last))
    for node in ast.walk(ast.parse(source)):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            string = node.body[0]
            before = lines[string.lineno - 1].encode("utf8")[: string.col_offset]
            after = lines[string.end_lineno - 1].encode("utf8")[string.end_col_offset :]
            for row in range(string.lineno - 1, string.end_lineno):
                lines[row] = ""
                inside.discard(row)
            lines[string.lineno - 1] = (before + after).decode("utf8")
    kept = [
        line if row + 1 in inside else line.rstrip()  # its end belongs to the string too
        for row, line in enumerate(lines)
        if row in inside or line.strip()
    ]
    return "\n".join(kept)


def distributions(libraries: Iterable[str]) -> dict[str, str]:
    """Installed version of each distribution that has a top-level module in ``libraries``, and of
    all that these require, extras left out."""
    providers = _providers()
    waiting = [name for library in libraries for name in providers.get(library, [])]
    found: dict[str, str] = {}
    while waiting:
        name = canonical(waiting.pop())
        if name in found or name == canonical(PACKAGE):
            continue
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        for requirement in metadata.requires(name) or []:
            if "extra ==" not in requirement.partition(";")[2]:
                waiting.append(requirement_name(requirement))
    return dict(sorted(found.items()))


@lru_cache(maxsize=1)
def _providers() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()  # reads every installed distribution: a second


def canonical(name: str) -> str:
    """A distribution's name as the index compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def requirement_name(requirement: str) -> str:
    """``torch`` of ``torch>=2.6; python_version < "4"``."""
    end = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "._-")), None)
    return requirement[:end]
