"""``make book`` on a small book of its own: it builds, and fails when a page is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jupyter_book")

ROOT = Path(__file__).resolve().parents[3]
PAGE = "chapters/1_toy/1_toy"
TOC = f"""\
format: jb-book
root: book/intro
chapters:
  - file: {PAGE}
"""
INTRO = "# Toy\n\nSee {doc}`the page </chapters/1_toy/1_toy>`.\n"
HEALTHY = """\
# %% [markdown]
# # A toy page

# %%
from dlcourse.notebook import claim

total = sum(range(5))
claim("The sum is {total}.", total == 10, total=total)
"""


def make_book(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs ``make book`` there, with the virtual environment of these tests as it is."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "book", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.installed"]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment | {"DLCOURSE_COMMIT": "0123abc"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    """A checkout with one small page, built once."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("_config.yml", "Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, folder)
    shutil.copytree(ROOT / "tools", folder / "tools")
    shutil.copytree(ROOT / "book/static", folder / "book/static")
    shutil.copy2(ROOT / "book/references.bib", folder / "book")
    (folder / "src/dlcourse").mkdir(parents=True)
    (folder / "_toc.yml").write_text(TOC, encoding="utf-8")
    (folder / "book/intro.md").write_text(INTRO, encoding="utf-8")
    source = folder / f"{PAGE}.py"
    source.parent.mkdir(parents=True)
    source.write_text(HEALTHY, encoding="utf-8")
    built = make_book(folder)
    assert built.returncode == 0, built.stdout
    return folder


@pytest.fixture
def book(healthy, tmp_path) -> Path:
    """A copy of the built checkout, to break."""
    return Path(shutil.copytree(healthy, tmp_path / "checkout"))


def append(book: Path, text: str) -> None:
    with (book / f"{PAGE}.py").open("a", encoding="utf-8") as source:
        source.write(text)


def test_a_healthy_book_builds(healthy):
    page = (healthy / f"_build/html/{PAGE}.html").read_text(encoding="utf-8")
    assert "The sum is 10." in page
    assert (healthy / f"_build/html/notebooks/{PAGE}.ipynb").is_file()


def test_a_notebook_that_raises_fails_the_book_with_its_traceback(book):
    append(book, "\n# %%\n1 / 0\n")
    built = make_book(book)
    assert built.returncode != 0
    assert "ZeroDivisionError" in built.stdout


def test_a_claim_that_is_no_longer_true_fails_the_book(book):
    append(book, '\n# %%\nclaim("The sum is 11, not {total}.", total == 11, total=total)\n')
    built = make_book(book)
    assert built.returncode != 0
    assert "ClaimError" in built.stdout and "The sum is 11, not 10." in built.stdout


def test_a_reference_to_nothing_fails_the_book(book):
    (book / "book/intro.md").write_text("# Toy\n\nSee {doc}`nowhere`.\n", encoding="utf-8")
    built = make_book(book)
    assert built.returncode != 0
    assert "nowhere" in built.stdout


def test_a_page_that_was_not_executed_fails_the_site(book):
    (book / f"_build/executed/{PAGE}.ipynb").unlink()
    command = [f"{sys.prefix}/bin/jupyter-book", "build", "-W", "--keep-going", "."]
    built = subprocess.run(command, cwd=book, capture_output=True, text=True, timeout=300)
    assert built.returncode != 0
    assert "not executed" in built.stderr + built.stdout
