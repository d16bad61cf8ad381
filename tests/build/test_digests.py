"""A record is of older code when what its cell uses has changed, and not for other edits."""

import pytest

from dlcourse.build.digests import cell_digest, code_digest, used_statements
from dlcourse.build.reach import Package

DEFINITIONS = [
    '''\
"""Imports."""
import functools
import json as j, math
from dlcourse.toy_chapter import one, two
import torch.nn.functional as F
''',
    '''\
SIZE = 3
OTHER = 4


def decorate(function):
    return function


@decorate
@functools.cache
def step(x, loss=None):
    """One step."""
    # of SIZE
    for epoch in range(SIZE):
        loss = x + helper(epoch)
    return loss


def helper(x):
    return one() + x


def unused(rate):
    loss = two() * OTHER
    return loss


F.threads = 1
''',
]
CELL = "loss = step(2)\nprint(loss)\n"


def used(cell, definitions=DEFINITIONS):
    return used_statements(definitions, cell)


def test_a_cell_uses_what_it_names_and_what_that_needs():
    assert [statement.splitlines()[0] for statement in used(CELL)] == [
        "import functools",
        "from dlcourse.toy_chapter import one",
        "import torch.nn.functional as F",
        "SIZE = 3",
        "def decorate(function):",
        "@decorate",
        "def helper(x):",
        "F.threads = 1",
    ]


def test_of_an_import_only_the_used_names_count():
    assert "import json as j" in used("j.dumps(1)")
    assert "import json as j, math" in used("j.dumps(math.pi)")


@pytest.mark.parametrize(
    "definition, cell, counts",
    [
        ("x = 1", "print(x)", True),
        ("x = 1", "def f(x):\n    return x\nf(1)", False),  # a parameter of the cell's own
        ("x = 1", "[x for x in range(3)]", False),
        ("x = 1", "[x + y for y in range(3)]", True),
        ("x = 1", "def f():\n    return x\nf()", True),
        ("x = 1", "def f():\n    global x\n    x = 2\n", False),
        ("x = 1", "x += 1", True),
        ("x = 1", "y.x", False),
        ("def f():\n    x = 1", "print(x)", False),  # local to the function
        ("def f():\n    global x\n    x = 1", "print(x)", True),
        ("for x in range(3):\n    pass", "print(x)", True),
        ("with open('a') as x:\n    pass", "print(x)", True),
        ("try:\n    import x\nexcept ImportError:\n    x = None", "print(x)", True),
        ("class A:\n    x = 1", "print(x)", False),
        ("class A:\n    x = 1", "A()", True),
        ("x: int = 1", "print(x)", True),
        ("a, *x = range(3)", "print(x)", True),
        ("if (x := 3):\n    pass", "print(x)", True),
        ("print('always')", "1", True),
        ("a.b = 1", "1", True),
        ("from os import *", "1", True),
        ("'a sentence'", "1", False),
        ("import x.y", "x.y.z", True),
        ("import z.x", "x", False),
    ],
)
def test_which_definitions_count(definition, cell, counts):
    assert used(cell, [definition]) == ([definition] if counts else [])


def digests(changed=None, cell=CELL):
    """The cell's digest, with ``changed`` (old, new) in its definitions."""
    definitions = DEFINITIONS
    if changed:
        assert any(changed[0] in text for text in definitions)
        definitions = [text.replace(*changed) for text in definitions]
    return cell_digest(definitions, cell)


@pytest.mark.parametrize(
    "change",
    [
        ("SIZE = 3", "SIZE = 4"),
        ("one() + x", "one() - x"),
        ("@functools.cache\n", ""),
        ("F.threads = 1", "F.threads = 2"),
        ("import functools", "import functools_32 as functools"),
        ("range(SIZE)", "range(OTHER)"),
    ],
)
def test_a_change_of_what_the_cell_uses_changes_its_digest(change):
    assert digests(change) != digests()


@pytest.mark.parametrize(
    "change",
    [
        ("OTHER = 4", "OTHER = 5"),
        ("two() * OTHER", "two()"),
        ("def unused(rate)", "def unused(x)"),
        ("import json as j, math", "import math"),
        ("import one, two", "import one"),
        ('"""One step."""', '"""The same step."""'),
        ("    # of SIZE\n", ""),
        ('"""Imports."""\n', ""),
    ],
)
def test_no_other_change_does(change):
    assert digests(change) == digests()


def test_a_change_of_the_cell_changes_its_digest_and_a_comment_does_not():
    assert digests(cell=CELL.replace("2", "3")) != digests()
    assert digests(cell="# what it shows\n\n" + CELL) == digests()


@pytest.fixture
def package(tmp_path):
    """A package whose chapter offers ``one``, which needs a third module, and ``two``."""
    modules = {
        "__init__.py": "",
        "chapters.py": "",
        "notebook/__init__.py": "import dlcourse.chapters\n",
        "toy_chapter/__init__.py": "import dlcourse.chapters\n\nCHAPTER = 1\n",
        "toy_chapter/__init__.pyi": "from .one import one as one\nfrom .two import two as two\n",
        "toy_chapter/one.py": '"""One."""\nfrom .base import start\ndef one():\n    return start\n',
        "toy_chapter/two.py": "def two():\n    return 2\n",
        "toy_chapter/base.py": "start = 1  # the first\n",
    }
    for name, text in modules.items():
        file = tmp_path / "src" / "dlcourse" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Package(tmp_path)


@pytest.mark.parametrize(
    "module, old, new, changes",
    [
        ("one", "return start", "return start + 1", True),
        ("base", "start = 1", "start = 2", True),
        ("base", "# the first", "# the one", False),
        ("one", '"""One."""', '"""A number."""', False),
        ("two", "return 2", "return 3", False),  # imported, and not used by the cell
    ],
)
def test_the_codes_digest_is_of_what_the_cell_reaches(package, module, old, new, changes):
    before = code_digest(package, DEFINITIONS, CELL)
    file = package.files[f"dlcourse.toy_chapter.{module}"]
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert (code_digest(package, DEFINITIONS, CELL) != before) == changes


def test_a_cell_that_reaches_no_code_has_a_digest_too(package):
    assert code_digest(package, [], "1") == code_digest(package, DEFINITIONS, "2")


def test_imports_of_the_cell_itself_count(package):
    cell = "from dlcourse.toy_chapter import two\ntwo()"
    before = code_digest(package, [], cell)
    package.files["dlcourse.toy_chapter.two"].write_text("def two():\n    return 3\n")
    assert code_digest(package, [], cell) != before


@pytest.mark.parametrize("carrier", ["dlcourse", "dlcourse.notebook", "dlcourse.chapters"])
def test_what_only_loads_and_shows_is_no_code_of_a_cell(package, carrier):
    cell = "from dlcourse.notebook import keep\nfrom dlcourse.toy_chapter import two\nkeep(x=two())"
    before = code_digest(package, [], cell)
    package.files[carrier].write_text("__version__ = '9'\n")
    assert code_digest(package, [], cell) == before
