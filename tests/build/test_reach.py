"""Which modules and libraries a piece of code reaches, and what of a module is code."""

import ast
import textwrap
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import grimp
import pytest

from dlcourse.build import reach as reach_module
from dlcourse.build.reach import (
    Imports,
    Package,
    canonical,
    code_text,
    distributions,
    requirement_name,
)

ROOT = Path(__file__).parents[2]
MODULES = {
    "__init__.py": "",
    "base.py": "import json\n",
    "alone.py": "",
    "chapter/__init__.py": "CHAPTER = 1\n",
    "chapter/__init__.pyi": """
        from .systems.lion import Lion as Lion
        from .systems.lion import _hidden as shown
        from .systems import adam as adam
        from . import helper as helper
    """,
    "chapter/helper.py": "",
    "chapter/systems/__init__.py": '"""Systems."""\n',
    "chapter/systems/lion.py": "from ..shared import check\nimport torch.nn as nn\n",
    "chapter/systems/adam.py": "from .lion import Lion\nfrom . import parts\n",
    "chapter/systems/parts.py": "def late():\n    import dlcourse.base\n    import numpy\n",
    "chapter/shared.py": """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            import pandas
            from dlcourse.alone import x
        else:
            import scipy
    """,
}


@pytest.fixture
def package(tmp_path):
    """A package with one chapter whose facade has a stub."""
    for name, text in MODULES.items():
        file = tmp_path / "src" / "dlcourse" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return Package(tmp_path)


def reach(package, code):
    found = package.reach(package.imports_of(ast.parse(code)))
    names = {name.removeprefix("dlcourse").removeprefix(".") for name in found.modules}
    return names - {""}, set(found.libraries)


LION = {"chapter", "chapter.systems", "chapter.systems.lion", "chapter.shared"}
LION_LIBRARIES = {"torch", "__future__", "typing", "scipy"}


@pytest.mark.parametrize(
    "code, modules, libraries",
    [
        ("import dlcourse", set(), set()),
        ("import os.path as p, json", set(), {"os", "json"}),
        ("from dlcourse import base", {"base"}, {"json"}),
        ("import dlcourse.base as b", {"base"}, {"json"}),
        ("from dlcourse.base import x", {"base"}, {"json"}),
        ("from dlcourse.chapter import Lion", LION, LION_LIBRARIES),
        ("from dlcourse.chapter import Lion as L, CHAPTER", LION, LION_LIBRARIES),
        ("from dlcourse.chapter import shown", LION, LION_LIBRARIES),
        ("from dlcourse.chapter import helper", {"chapter", "chapter.helper"}, set()),
        (
            "from dlcourse.chapter import adam",
            LION | {"chapter.systems.adam", "chapter.systems.parts", "base"},
            LION_LIBRARIES | {"numpy", "json"},
        ),
        ("from dlcourse.chapter.systems.lion import Lion", LION, LION_LIBRARIES),
        ("def f():\n    from dlcourse.chapter import Lion", LION, LION_LIBRARIES),
    ],
)
def test_code_reaches_what_it_imports_and_what_that_imports(package, code, modules, libraries):
    assert reach(package, code) == (modules, libraries)


@pytest.mark.parametrize(
    "code",
    [
        *("import dlcourse.chapter as c", "from dlcourse import chapter"),
        "from dlcourse.chapter import *",
    ],
)
def test_a_whole_facade_reaches_all_that_it_offers(package, code):
    offered = {"chapter.helper", "chapter.systems.lion", "chapter.systems.adam"}
    assert offered < reach(package, code)[0]


def test_what_is_for_type_checkers_is_not_reached(package):
    modules, libraries = reach(package, "from dlcourse.chapter import shared")
    assert modules == {"chapter", "chapter.shared"}
    assert "pandas" not in libraries and "scipy" in libraries


def test_an_import_without_effect_on_any_other_module_is_found_relative_to_its_place(package):
    assert package.imports("dlcourse.chapter.systems.adam").modules == {
        *("dlcourse", "dlcourse.chapter", "dlcourse.chapter.systems"),
        *("dlcourse.chapter.systems.lion", "dlcourse.chapter.systems.parts"),
    }


def test_reach_agrees_with_the_import_graph_of_grimp():
    """Direct imports of every module of the real package, against a library that knows graphs."""
    package = Package(ROOT)
    graph = grimp.build_graph("dlcourse", exclude_type_checking_imports=True, cache_dir=None)
    assert set(package.files) == graph.modules
    differing = {}
    for module in package.files:
        ours = set(package.imports(module).modules)
        # What importing a module runs first: the packages around it. grimp does not count them.
        around = {name for other in [module, *ours] for name in _parents(other)}
        theirs = set(graph.find_modules_directly_imported_by(module))
        lazy = {name for facade in ours for name in package.stub(facade).values()}
        if theirs - ours or ours - theirs - around - lazy:
            differing[module] = (theirs - ours, ours - theirs - around - lazy)
    assert differing == {}


def _parents(module):
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


# --- digests of modules ---------------------------------------------------------------------------


def test_digest_is_of_the_given_modules_and_their_names(package):
    names = ["dlcourse.base", "dlcourse.alone"]
    digest = package.digest(names, code_only=True)
    assert package.digest(reversed(names), code_only=True) == digest
    assert package.digest(names[:1], code_only=True) != digest
    package.files["dlcourse.chapter.helper"].write_text("x = 1\n")
    assert package.digest(names, code_only=True) == digest
    package.files["dlcourse.alone"].write_text("x = 1\n")
    assert package.digest(names, code_only=True) != digest


PROGRAM = '''\
"""What the module is."""

import json  # for files


class A:
    """A class."""

    x = 1

    def f(self):
        """What it does,

        at length."""
        return "# no comment"


class Error(ValueError): """One line."""


def g(): "One line."; return 2


text = """
two lines


    # of text   
"""
'''


@pytest.mark.parametrize(
    "old, new",
    [
        ("What the module is.", "Something else.\n\nLonger."),
        ("  # for files", ""),
        ("for files", "for other files"),
        ("A class.", "Another."),
        ("What it does,\n\n        at length.", "Short."),
        ('    """A class."""\n\n', ""),
        ('"""One line."""', '"""Another line."""'),
        ('"One line."', '"Another"'),
        ("import json", "\n\n# a comment\nimport json"),
        ("x = 1\n", "x = 1   \n"),
    ],
)
def test_comments_docstrings_and_blanks_are_no_code(old, new):
    assert old in PROGRAM
    assert code_text(PROGRAM.replace(old, new)) == code_text(PROGRAM)


@pytest.mark.parametrize(
    "old, new",
    [
        ("x = 1", "x = 2"),
        ("import json", "import os"),
        ('"# no comment"', '"# another"'),
        ("class Error", "class Other"),
        ("def g()", "def h()"),
        ("return 2", "return 3"),
        ("two lines\n\n\n", "two lines\n\n"),
        ("text   \n", "text\n"),
        ("# of text", "# of a text"),
        ("        return", "    return"),
    ],
)
def test_all_else_is_code(old, new):
    assert old in PROGRAM
    assert code_text(PROGRAM.replace(old, new)) != code_text(PROGRAM)


def test_what_is_left_is_the_same_program():
    def tree(source):
        found = ast.parse(source)
        for node in ast.walk(found):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                if ast.get_docstring(node) is not None:
                    node.body = node.body[1:]
        return ast.dump(found)

    for file in sorted((ROOT / "src/dlcourse/build").rglob("*.py")):
        source = file.read_text(encoding="utf8")
        left = code_text(source)
        # A body that was a docstring alone is gone; give it one, so that it can be parsed.
        with_bodies = "\n".join(_with_body(left.split("\n")))
        assert tree(with_bodies).replace("Pass()", "") == tree(source).replace("Pass()", ""), file


def _with_body(lines):
    for line, following in zip(lines, [*lines[1:], ""]):
        yield line
        depth = len(line) - len(line.lstrip())
        if line.lstrip().startswith(("class ", "def ")) and line.endswith(":"):
            if len(following) - len(following.lstrip()) <= depth:
                yield " " * (depth + 4) + "pass"


# --- installed distributions ----------------------------------------------------------------------


def test_versions_are_of_the_libraries_and_all_that_they_require():
    found = distributions(["yaml", "matplotlib"])
    assert {"pyyaml", "matplotlib", "numpy", "pillow", "contourpy"} <= set(found)
    assert "torch" not in found and "dlcourse" not in found
    assert found["numpy"] == __import__("numpy").__version__


def test_what_is_not_installed_and_extras_are_left_out(monkeypatch):
    requires = {"a": ["numpy>=2", "pytest; extra == 'test'", "no-such-distribution"]}
    installed = {"a": "1.5", "numpy": "2.4", "pytest": "9.0"}

    def version(name):
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    fake = SimpleNamespace(
        version=version, requires=requires.get, PackageNotFoundError=metadata.PackageNotFoundError
    )
    monkeypatch.setattr(reach_module, "metadata", fake)
    monkeypatch.setattr(reach_module, "_providers", lambda: {"a": ["A"]})
    assert distributions(["a", "sys"]) == {"a": "1.5", "numpy": "2.4"}


@pytest.mark.parametrize(
    "requirement, name",
    [
        ("torch>=2.6", "torch"),
        ("torch (>=2.6)", "torch"),
        ("Jinja2", "Jinja2"),
        ("ruamel.yaml[jinja2] ; extra == 'x'", "ruamel.yaml"),
    ],
)
def test_a_requirement_begins_with_a_name(requirement, name):
    assert requirement_name(requirement) == name


def test_names_of_distributions_are_compared_as_the_index_does():
    assert canonical("Ruamel_YAML.clib") == "ruamel-yaml-clib"


def test_reaching_nothing_reaches_nothing(package):
    nothing = Imports(frozenset(), frozenset())
    assert package.reach(nothing) == nothing
