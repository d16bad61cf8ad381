"""A small checkout of a course, to run the machinery on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dlcourse
from dlcourse.chapters import chapters

ODD = "my course & [more] (1)"  # a name that a person may give the folder
PYPROJECT = """\
[project]
name = "dlcourse"
version = "1.2.3"
[project.optional-dependencies]
toy-chapter = []
"""
BIBLIOGRAPHY = r"""
@article{chen2023lion,
  author = {Chen, Xiangning and Liang, Chen and Huang, Da},
  title = {Symbolic {D}iscovery of Optimization Algorithms}, year = {2023},
  eprint = {2302.06675}, url = {https://example.org/lion}}
@article{robbins1951, author = {Robbins, Herbert and Monro, Sutton}, year = {1951},
  title = {A Stochastic Approximation Method}, doi = {10.1214/aoms/1177729586}}
@misc{godel, author = {G{\"o}del, Kurt}, title = {On it}, year = {1931}}
@misc{arxivonly, author = {{Google Brain}}, title = {T}, year = {2020}, eprint = {1.2}}
"""
TOY_FACADE = '''\
"""A chapter."""

from dlcourse.chapters import attach

CHAPTER = 1

__getattr__, __dir__, __all__ = attach(__name__, __file__)
'''
TOY_MODULE = '''\
"""A module."""


def {name}():
    """A number."""
    return {value}  # a comment
'''


class Checkout:
    """A folder with what the machinery reads; ``add`` writes chapters, ``dlcourse`` runs it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listed: list[str] = []
        self.variables = {"OMP_NUM_THREADS": "1", "DLCOURSE_GPU": "0"}
        self.write("pyproject.toml", PYPROJECT)
        self.write("_config.yml", "repository:\n  url: https://example.org/someone/course/\n")
        self.write("chapters/2_cited/references.bib", BIBLIOGRAPHY)
        self.write("book/intro.md", "(sec-intro)=\n# Introduction\n")
        self.write("constraints.txt", "torch==2.13.0\n")
        self.write("src/dlcourse/__init__.py", "")
        self._write_toc()

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf8")
        return file

    def _write_toc(self) -> None:
        chapters = "".join(f"  - file: chapters/{name}\n" for name in self.listed)
        parts = f"parts:\n- caption: One\n  chapters:\n{chapters}" if chapters else ""
        self.write("_toc.yml", f"format: jb-book\nroot: book/intro\n{parts}")

    def add(self, stem: str, text: str, folder: str = "1_toy_chapter") -> Path:
        self.listed.append(f"{folder}/{stem}")
        self._write_toc()
        return self.write(f"chapters/{folder}/{stem}.py", text)

    def give_package(self, *rooms: str) -> None:
        """A copy of the package under ``src``, which kernels import, with one chapter of its own.

        The chapter offers ``one`` and ``two``, each from a module of its own. ``rooms``: only these
        folders of the package; by default all but chapters.
        """
        package, ours = Path(dlcourse.__file__).parent, self.root / "src" / "dlcourse"
        folders = {path.name for path in package.iterdir() if path.is_dir()}
        shutil.rmtree(ours)
        for folder in rooms or folders - {"__pycache__", *chapters().values()}:
            ignored = shutil.ignore_patterns("__pycache__", "site")
            shutil.copytree(package / folder, ours / folder, ignore=ignored)
        for file in package.glob("*.py"):
            shutil.copy(file, ours)
        self.variables["PYTHONPATH"] = str(self.root / "src")
        self.write("src/dlcourse/toy_chapter/__init__.py", TOY_FACADE)
        stub = "from .one import one as one\nfrom .two import two as two\n"
        self.write("src/dlcourse/toy_chapter/__init__.pyi", stub)
        self.write("src/dlcourse/toy_chapter/one.py", TOY_MODULE.format(name="one", value=1))
        self.write("src/dlcourse/toy_chapter/two.py", TOY_MODULE.format(name="two", value=2))

    def executed(self, stem: str, folder: str = "1_toy_chapter") -> Path:
        return self.root / "_build" / "executed" / "chapters" / folder / f"{stem}.ipynb"

    def environment(self, **extra: str) -> dict[str, str]:
        return {**os.environ, **self.variables, **extra}

    def popen(self, *arguments: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "dlcourse.cli", *arguments],
            cwd=self.root,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def dlcourse(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        process = self.popen(*arguments, **environment)
        stdout, stderr = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / ODD)


@pytest.fixture(scope="module")
def module_checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("course") / ODD)
