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
BARE = "chapters/1_toy/2_bare"
TOC = f"""\
format: jb-book
root: book/intro
chapters:
  - file: {PAGE}
  - file: {BARE}
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
    """A checkout with two small pages, built once."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("_config.yml", "Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, folder)
    shutil.copytree(ROOT / "book/static", folder / "book/static")
    (folder / "src/dlcourse").mkdir(parents=True)
    (folder / "_toc.yml").write_text(TOC, encoding="utf-8")
    (folder / "book/intro.md").write_text(INTRO, encoding="utf-8")
    source = folder / f"{PAGE}.py"
    source.parent.mkdir(parents=True)
    source.write_text(HEALTHY, encoding="utf-8")
    (folder / f"{BARE}.py").write_text(HEALTHY, encoding="utf-8")
    built = make_book(folder)
    assert built.returncode == 0, built.stdout
    return folder


@pytest.fixture
def book(healthy, tmp_path) -> Path:
    """A copy of the built checkout, to break."""
    return Path(shutil.copytree(healthy, tmp_path / "checkout"))


def build_site(book: Path) -> subprocess.CompletedProcess[str]:
    """Builds the site there from what was executed before."""
    command = [f"{sys.prefix}/bin/jupyter-book", "build", "-W", "-n", "--keep-going", "."]
    return subprocess.run(
        command,
        cwd=book,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def test_a_healthy_book_builds(healthy):
    page = (healthy / f"_build/html/{PAGE}.html").read_text(encoding="utf-8")
    assert "The sum is 10." in page
    assert (healthy / f"_build/html/notebooks/{PAGE}.ipynb").is_file()


UNTRUE = '\n# %%\nclaim("The sum is 11, not {total}.", total == 11, total=total)\n'


def test_notebooks_that_raise_or_claim_what_is_not_true_fail_the_book(book):
    (book / f"{PAGE}.py").write_text(HEALTHY + UNTRUE, encoding="utf-8")
    (book / f"{BARE}.py").write_text(HEALTHY + "\n# %%\n1 / 0\n", encoding="utf-8")
    built = make_book(book)
    assert built.returncode != 0 and "== Building the site" not in built.stdout
    assert "0 ok, 0 cached, 2 failed" in built.stdout
    assert "ZeroDivisionError" in built.stdout
    assert "ClaimError" in built.stdout and "The sum is 11, not 10." in built.stdout


DRAWING = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">
<rect class="box" x="1" y="1" width="8" height="8"/></svg>"""
ENTRY = """
- page: 1_toy
  system: Toy
  defect: It does not add.
  consequence: The sum is 0.
  correct: It adds.
  source: toy2020
  test: pyproject.toml::test_it_adds
"""
CORRECTION = """
- date: 2026-02-03
  page: 1_toy
  claimed: The sum is 11.
  right: It is 10.
  seen: a reader added
"""
WORK = "@misc{toy2020, author = {Toy, A.}, title = {Adding}, year = {2020}}\n"
TABLES = """
```{errata}
```
```{corrections}
```
```{bibliography}
:all:
```
"""


def build_with(book: Path, intro: str, **files: str) -> subprocess.CompletedProcess[str]:
    """Builds the site with more on its first page, and with files in the chapter's folder."""
    (book / "book/figures").mkdir()
    (book / "book/figures/box.svg").write_text(DRAWING, encoding="utf-8")
    (book / "book/intro.md").write_text(f"{INTRO}\n{intro}\n", encoding="utf-8")
    for stem, text in files.items():
        suffix = ".bib" if stem == "references" else ".yml"
        (book / PAGE).with_name(stem + suffix).write_text(text, encoding="utf-8")
    return build_site(book)


def diagram(*lines: str) -> str:
    return "\n".join([":::{diagram} figures/box.svg", *lines, ":::", ""])


def test_a_page_is_made_from_the_files_of_the_chapters_folder(book):
    drawing = diagram(":name: fig-toy", ":alt: A box.", "", "A caption.")
    built = build_with(
        book, drawing + TABLES, errata=ENTRY, corrections=CORRECTION, references=WORK
    )
    assert built.returncode == 0, built.stdout
    page = (book / "_build/html/book/intro.html").read_text(encoding="utf-8")
    assert 'aria-label="A box."' in page and "A caption." in page
    for text in ("It does not add.", "it adds</a>", "Corrected since", "It is 10.", "Adding"):
        assert text in page


@pytest.fixture(scope="module")
def complaints(healthy, tmp_path_factory) -> str:
    """What a build says of a page on which everything is wrong."""
    folder = tmp_path_factory.mktemp("wrong") / "checkout"
    shutil.copytree(healthy, folder)
    errata = (
        ENTRY.replace("  correct: It adds.\n", "")
        + ENTRY.replace("page: 1_toy", "page: 2_toy")
        + ENTRY.replace("pyproject.toml", "nowhere.py")
    )
    drawings = diagram(":name: one", "", "A caption.") + diagram(":name: two", ":alt: A box.")
    shown = ":::{shown} chapters/1_toy/1_toy\n:name: explore-nothing\n:::\n"
    (folder / f"_build/executed/{BARE}.ipynb").unlink()
    built = build_with(
        folder,
        drawings + TABLES + shown + "See {doc}`nowhere`.\n",
        errata=errata,
        corrections="- {date: 2026-02-03, page: 1_toy}",
        references=WORK,
    )
    assert built.returncode != 0
    return built.stdout


@pytest.mark.parametrize(
    "complaint",
    [
        "box.svg needs an :alt:",
        "box.svg needs a caption",
        "lacks correct",
        "there is no page chapters/1_toy/2_toy",
        "no such test file: nowhere.py",
        "lacks claimed",
        "shows nothing with id=\"explore-nothing\"",
        "unknown document: 'nowhere'",
        "not executed: run `dlcourse run` first",
    ],
)
def test_what_is_incomplete_fails_the_site(complaints, complaint):
    assert [line for line in complaints.splitlines() if "WARNING: " in line and complaint in line]


def test_bibliographies_that_contradict_each_other_fail_the_site(book):
    (book / "chapters/2_toy").mkdir()
    (book / "chapters/2_toy/references.bib").write_text(WORK.replace("2020}}", "2021}}"))
    built = build_with(book, "", references=WORK)
    assert built.returncode != 0
    assert "toy2020 has different entries" in built.stdout
