"""Every test is run: pytest finds each file, and no test hides another of its name."""

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/*.py"))
# In place of each module that pytest would import: its path. Nothing is imported, none is run.
LISTER = """
import pytest

class Named(pytest.File):
    def collect(self):
        print("found", self.path.relative_to(self.config.rootpath).as_posix())
        return []

def pytest_pycollect_makemodule(module_path, parent):
    return Named.from_parent(parent, path=module_path)
"""


def found_by_pytest(folder: Path, *arguments: str) -> list[str]:
    """The test files that ``pytest tests`` reads with the settings of the repository."""
    (folder / "lister.py").write_text(LISTER)
    plugins = ("-plister", "-pno:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests", "-qs", "--collect-only", *plugins, *arguments],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    return sorted(line.removeprefix("found ") for line in lines if line.startswith("found "))


def names_in(file: str) -> list[Counter[str]]:
    """How often each name of a test stands in a file, and in each class of it."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf8"))
    scopes = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [
        Counter(n.name for n in scope.body if isinstance(n, kinds) and n.name.startswith("test"))
        for scope in scopes
    ]


def test_every_test_file_is_collected(tmp_path):
    named = [file for file in FILES if Path(file).name.startswith("test_")]
    assert named and found_by_pytest(tmp_path) == named


def test_a_folder_that_pytest_passes_over_is_noticed(tmp_path):
    # The names that pytest passes over where nothing is set; tests/build was lost by one of them.
    missing = set(FILES) - set(found_by_pytest(tmp_path, "-o", "norecursedirs=build dist"))
    assert "tests/build/test_tested.py" in missing


def test_each_test_has_a_name_of_its_own_and_stands_in_a_file_that_is_read():
    for file in FILES:
        counts = names_in(file)
        assert not [name for names in counts for name, n in names.items() if n > 1], file
        assert any(counts) == Path(file).name.startswith("test_"), file
