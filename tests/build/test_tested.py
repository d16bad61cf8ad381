"""Tests that have passed are not run again while nothing changes."""

import subprocess
import sys

import pytest

from dlcourse.build import tested
from dlcourse.build.results import EXECUTED


@pytest.fixture
def proved(checkout):
    """A checkout under git, and pytest in it: what it says at the end."""
    checkout.write("pytest.ini", "[pytest]\n")
    checkout.write("tests/test_it.py", "def test_it():\n    pass\n")
    checkout.write(".gitignore", "_build/\n__pycache__/\n")
    subprocess.run(["git", "init", "-q"], cwd=checkout.root, check=True)

    def run(*arguments):
        options = ("-p", "dlcourse.build.tested", "-p", "no:cacheprovider", "--skip-if-proved")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *options, "tests", *arguments],
            cwd=checkout.root, env=checkout.environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
            capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout

    return run


SKIPPED = "Nothing has changed since all tests passed on "


def test_tests_that_passed_are_run_again_after_a_change_and_not_before(checkout, proved):
    assert "1 passed in" in proved()
    again = proved()
    assert again.startswith(SKIPPED) and again.endswith("== 1 passed ==\n")
    assert "1 passed in" in proved("-k", "it")  # another command line
    checkout.write("tests/new.txt", "not tracked, and may matter")
    assert "1 passed in" in proved()
    assert proved().startswith(SKIPPED)


def test_tests_that_failed_are_run_again(checkout, proved):
    checkout.write("tests/test_bad.py", "def test_bad():\n    assert False\n")
    for _ in range(2):
        assert "1 failed, 1 passed in" in proved()


def test_a_change_while_they_ran_voids_what_they_showed(checkout, proved):
    edits = "import pathlib\n\ndef test_it():\n    pathlib.Path('edited').write_text('')\n"
    checkout.write("tests/test_it.py", edits)
    assert "1 passed in" in proved()
    (checkout.root / "edited").unlink()
    assert "1 passed in" in proved()  # not this tree has passed
    assert "1 passed in" in proved()  # the file is there from the start now
    assert proved().startswith(SKIPPED)


def test_files_notebooks_versions_and_the_command_line_count(checkout, proved, monkeypatch):
    def digest(*arguments):
        return tested.tree_digest(checkout.root, [*arguments])

    found = [digest(), digest("-x")]
    checkout.write((EXECUTED / "chapters/1_toy/1.ipynb").as_posix(), "{}")
    found.append(digest())
    checkout.write((tested.SITE / "chapters/1_toy/1.html").as_posix(), "")
    found.append(digest())
    (checkout.root / "constraints.txt").unlink()
    found.append(digest())
    monkeypatch.setattr(tested.metadata, "distributions", lambda: [])
    found.append(digest())
    assert None not in found and len(set(found)) == len(found)


def test_without_git_nothing_is_proved(checkout):
    assert tested.tree_digest(checkout.root, []) is None
