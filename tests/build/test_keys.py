"""An edit executes the notebooks that it concerns, and no others."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dlcourse.build import keys, project, sources
from dlcourse.build.keys import notebook_key
from dlcourse.build.reach import Package
from dlcourse.build.staleness import RecordState, record_states
from dlcourse.notebook.records import CellRecord

ROOT = Path(__file__).parents[2]


# --- one notebook ---------------------------------------------------------------------------------


@pytest.fixture
def package(checkout):
    checkout.give_package("notebook", "exercises", "build", "teach")
    return Package(checkout.root)


def key(package, *cells, states=None):
    made = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    return notebook_key(new_notebook(cells=made), package, states or {})


def edit(package, module, text="\n# edited\n"):
    """Append to a module's file; ``package`` has not read it again."""
    file = package.files[f"dlcourse.{module}"]
    file.write_text(file.read_text() + text)


ONE = "from dlcourse.toy_chapter import one"


def test_a_key_is_the_same_every_time(package):
    assert key(package, ONE) == key(Package(package.folder.parent), ONE)


@pytest.mark.parametrize(
    "cells",
    [
        ("x = 1",),
        ("x = 2", "y = 2"),
        (new_markdown_cell("x = 2"),),
        (new_code_cell("x = 2", metadata={"tags": ["raises-exception"]}),),
        ("# a comment\nx = 2",),
    ],
)
def test_a_change_of_the_notebooks_own_text_changes_its_key(package, cells):
    assert key(package, *cells) != key(package, "x = 2")


@pytest.mark.parametrize(
    "code, module, changes",
    [
        (ONE, "toy_chapter.one", True),
        (ONE, "toy_chapter", True),  # the facade
        (ONE, "toy_chapter.two", False),
        ("x = 1", "toy_chapter.one", False),
        ("import dlcourse.toy_chapter as t", "toy_chapter.two", True),
        (f"%matplotlib inline\n{ONE}", "toy_chapter.one", True),
        (f"%%capture\n{ONE}", "toy_chapter.one", True),
        (f"!ls\nif True:\n    {ONE}", "toy_chapter.one", True),
        (f"program = '''\n{ONE}\n'''", "toy_chapter.one", True),  # run in a process of its own
        ("'import of dlcourse.toy_chapter'", "toy_chapter.one", False),
        ("def broken(:", "toy_chapter.one", False),
        ("x = 1", "build.engine", True),  # executes all notebooks
        ("x = 1", "build.kernel", True),
        ("x = 1", "notebook.records", True),  # draws the frames
        *(("x = 1", f"build.{m}", False) for m in ("doctor", "recorder", "runner", "keys", "myst")),
        *(("x = 1", m, False) for m in ("cli", "teach.grader", "exercises.checker", "experiments")),
    ],
)
def test_a_comment_in_a_module_changes_the_keys_of_notebooks_that_reach_it(
    package, code, module, changes
):
    before = key(package, code)
    edit(package, module)
    assert (key(package, code) != before) == changes


def test_the_style_of_plots_is_part_of_every_key(package):
    before = key(package, "1")
    style = package.folder / "dlcourse/notebook/course.mplstyle"
    style.write_text(style.read_text() + "axes.grid: False\n")
    assert key(package, "1") != before


def test_versions_of_reached_libraries_are_part_of_the_key(package, monkeypatch):
    def versions(libraries):
        return (("numpy", "9.9"),) if "numpy" in libraries else ()

    with_numpy, without = key(package, "import numpy"), key(package, "1")
    monkeypatch.setattr(keys, "_versions", versions)
    changed = key(package, "import numpy")
    assert changed != with_numpy and key(package, "1") != without  # IPython's versions too
    monkeypatch.setattr(keys, "_versions", lambda libraries: ())
    assert key(package, "import numpy") != changed


def test_what_executes_notebooks_is_among_the_versions(package):
    libraries = keys.imports_of(new_notebook(), package).libraries
    assert {"IPython", "ipykernel", "matplotlib_inline", "nbclient", "papermill"} <= libraries
    assert "sklearn" not in libraries


def record(**changes):
    fields = {
        "kind": "long",
        "device": "EPYC",
        "versions": {"torch": "2.11.0"},
        "date": "2026-01-02",
        "commit": "abc1234",
        "seconds": 300.0,
        "peak_memory_mb": 900.5,
        "cell": "a" * 64,
        "code": "b" * 64,
        "outputs": [],
        "values": {"loss": 1.5},
    }
    return CellRecord(**{**fields, **changes})


def state(record=None, changed=None):
    return {"1.1.a": RecordState("1.1.a", "long", record, changed, ("a" * 64, "b" * 64))}


def test_a_record_that_a_page_shows_is_part_of_its_key(package):
    shown = [
        state(None),
        state(record()),
        state(record(), "code"),
        state(record(), "cell"),
        state(record(device="H100")),
        state(record(values={})),
    ]
    assert len({key(package, "1", states=states) for states in shown}) == len(shown)


@pytest.mark.parametrize(
    "reads, name",
    [
        ("recorded( '119.2.a' )", "a"),
        ('for key in ("119.2.a",): recorded(key)', "a"),
        ('recorded(f"119.2.method-{i}")', "method-3"),
        ("recorded('119.2.' + name)", "a"),
    ],
)
def test_a_record_that_a_cell_reads_is_part_of_its_key(package, monkeypatch, reads, name):
    def key_with(**found):
        monkeypatch.setattr(keys.records, "read_records", lambda path: found)
        return key(package, reads)

    found = [{}, {name: record()}, {name: record(seconds=1.0)}]
    assert len({key_with(**given) for given in found}) == 3
    if not reads.endswith("name)"):
        assert key_with(other=record()) == key_with()


@pytest.mark.parametrize("name", ["7.1.a", "119.99.a", "119.2.none"])
def test_a_record_that_is_not_there_leaves_the_error_to_the_cell(name):
    assert keys._read_records(name) == {}


def test_a_check_or_quiz_that_is_not_there_leaves_the_error_to_the_cell(package):
    assert key(package, "check('7.1.none', f)") and key(package, "quiz('119.99')")


# --- the course itself ----------------------------------------------------------------------------

# Independent of the package's reader: what Python itself has loaded after a notebook's imports, and
# after those of its exercises. All notebooks in forks of one process that has loaded torch.
LOADED = """
import json, os, sys
import dlcourse  # torchvision may need it
import matplotlib.pyplot, torch, torchvision
assert {m for m in sys.modules if m.startswith("dlcourse.")} <= {"dlcourse._torchvision"}
found = {}
for name, (statements, exercises) in json.load(sys.stdin).items():
    reading, writing = os.pipe()
    if os.fork() == 0:
        for statement in statements: exec(statement, {})
        if exercises:
            from dlcourse.exercises import registry
            for key in exercises: registry.load(key)
        loaded = [m for m in sys.modules if m.partition(".")[0] == "dlcourse"]
        with os.fdopen(writing, "w") as pipe: json.dump(loaded, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe: found[name] = json.load(pipe)
print(json.dumps(found))
"""


class Course:
    """A copy of the course's sources, its notebooks, and what each reaches."""

    def __init__(self, root):
        self.root = root
        for name in ("src", "chapters"):
            ignored = shutil.ignore_patterns("__pycache__", "*.ipynb")
            shutil.copytree(ROOT / name, root / name, ignore=ignored)
        for name in ("_toc.yml", "_config.yml", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, root)
        self.notebooks = {
            path.relative_to(root).as_posix(): sources.read_source(path, root)
            for path in project.listed_sources(root)
        }
        self.reach = {n: self.imports(n).modules for n in self.notebooks}
        self.before = self.keys()

    def imports(self, name):
        return keys.imports_of(self.notebooks[name], Package(self.root))

    def states(self, package):
        return {
            name: record_states(notebook, self.root, Path(name), package)
            for name, notebook in self.notebooks.items()
        }

    def digests(self):
        """Those of each recorded cell, by its key."""
        states = self.states(Package(self.root)).values()
        return {key: state.digests for found in states for key, state in found.items()}

    def keys(self):
        package = Package(self.root)
        states = self.states(package)
        return {n: notebook_key(nb, package, states[n]) for n, nb in self.notebooks.items()}

    def changed_by(self, file, old="", new="# edited\n"):
        """The notebooks that get another key when ``file`` has ``new`` for ``old``."""
        path = self.root / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1) if old else text + new)
        try:
            after = self.keys()
        finally:
            path.write_text(text)
        return {name for name in after if after[name] != self.before[name]}


def _parsed(source):
    """The tree of a cell's Python; empty where it has none (a cell that shows an error)."""
    try:
        return ast.parse(re.sub(r"(?m)^[%!].*$", "", source))
    except SyntaxError:
        return ast.Module([], [])


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return Course(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def loaded(course):
    """The modules of the package that are loaded after a notebook's imports and exercises."""
    asked = {}
    for name, notebook in course.notebooks.items():
        code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        nodes = [node for source in code for node in ast.walk(_parsed(source))]
        found = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
        called = re.findall(r'^(?:check|quiz)\("([^"]+)"', "\n".join(code), re.MULTILINE)
        statements = [text for text in map(ast.unparse, found) if "dlcourse" in text]
        asked[name] = (statements, called)
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        input=json.dumps(asked), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name: set(modules) for name, modules in json.loads(done.stdout).items()}


def test_a_notebook_reaches_at_least_what_python_loads(course, loaded):
    missed = {name: loaded[name] - course.reach[name] for name in course.notebooks}
    assert missed == {name: set() for name in course.notebooks}


def test_a_notebook_reaches_little_of_the_package(course):
    whole = len(Package(course.root).files)
    assert max(len(reached) for reached in course.reach.values()) < 0.4 * whole
    chapter_of = {name: name.split("/")[1].partition("_")[2] for name in course.notebooks}
    for name, reached in course.reach.items():
        for other in set(chapter_of.values()) - {chapter_of[name]}:
            assert not [m for m in reached if m.startswith(f"dlcourse.{other}.")]


def _systems(course):
    """One module for each section: the first of the chapter that its notebook imports."""
    for name, notebook in course.notebooks.items():
        chapter = name.split("/")[1].partition("_")[2]
        cells = [_parsed(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
        package = Package(course.root)
        for node in (node for cell in cells for node in ast.walk(cell)):
            if isinstance(node, ast.ImportFrom) and node.module == f"dlcourse.{chapter}":
                found = package.imports_of(ast.Module([node], [])).modules
                deepest = max(found, key=lambda module: (module.count("."), module))
                if deepest != f"dlcourse.{chapter}":
                    yield deepest
                    break


def test_an_edit_of_one_module_changes_the_keys_of_the_notebooks_that_load_it(course, loaded):
    systems = list(_systems(course))
    for module in ("dlcourse.experiments", systems[0], systems[-1]):
        file = Package(course.root).files[module].relative_to(course.root)
        reaching = {name for name, reached in course.reach.items() if module in reached}
        loading = {name for name, names in loaded.items() if module in names}
        assert course.changed_by(file) == reaching, module
        assert loading <= reaching, module


def test_an_edit_of_what_no_notebook_reaches_changes_no_key(course):
    chapters = {Path(name).parts[1] for name in course.notebooks}
    teaching = [f"src/dlcourse/teach/{p.name}" for p in (ROOT / "src/dlcourse/teach").glob("*.py")]
    building = [f"src/dlcourse/build/{name}.py" for name in ("doctor", "runner", "keys", "proofs")]
    files = ["src/dlcourse/cli.py", *teaching, *building, "constraints.txt"]
    texts = {file: (course.root / file).read_text() for file in files}
    for file in files:  # all at once: none may change anything
        (course.root / file).write_text(texts[file] + "\n# edited\n")
    try:
        assert course.keys() == course.before
    finally:
        for file in files:
            (course.root / file).write_text(texts[file])
    assert len(chapters) > 1


def test_an_edit_of_an_exercise_changes_the_notebooks_that_name_it(course):
    (file,) = (course.root / "src").rglob("exercises/*/lion.py")
    naming = {
        name
        for name, notebook in course.notebooks.items()
        if any('check("119.2.lion"' in cell.source for cell in notebook.cells)
    }
    assert course.changed_by(file.relative_to(course.root)) == naming
    assert [Path(name).stem for name in naming] == ["2_optimizers"]


def test_a_docstring_changes_pages_and_no_records_digest_and_code_changes_both(course):
    module = "dlcourse.experiments"
    file = Package(course.root).files[module]
    text = file.read_text()
    digests = course.digests()
    assert digests
    try:
        for new, changes in (('"""Edited.', False), ('EDITED = 1\n"""', True)):
            file.write_text(text.replace('"""', new, 1))
            now = course.digests()
            changed = {k for k in now if now[k] != digests[k]}
            assert bool(changed) == changes
            assert {k for k in now if now[k][0] != digests[k][0]} == set()  # no cell has changed
            assert course.keys() != course.before
    finally:
        file.write_text(text)
