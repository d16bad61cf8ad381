"""A pytest plugin for the second execution of notebooks (nbval), which repeats nothing.

``make test`` executes every executed notebook once more and compares the outputs that must be equal
in each run. A notebook that has passed keeps that in the summary, with the key of its run: it is
not collected again until it is executed anew. The kernels get the course's environment.

Used as ``pytest -p dlcourse.build.proofs``.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dlcourse.build import project, results
from dlcourse.build.kernel import kernel_environment


def _source_of(path: Path, root: Path) -> Path | None:
    """The source, relative to ``root``, of an executed notebook; None for another file."""
    folder = root / results.EXECUTED
    if path.suffix != ".ipynb" or not path.is_relative_to(folder):
        return None
    return path.relative_to(folder).with_suffix(".py")


def _code_cells(path: Path) -> int:
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    return sum(cell["cell_type"] == "code" for cell in cells)


class Proofs:
    """Passes over notebooks that were proved, and remembers those that are."""

    def __init__(self, root: Path, rootpath: Path) -> None:
        self.root, self.rootpath = root.resolve(), rootpath  # of the checkout, and of pytest
        self.keys = self._keys()
        self.passed: Counter[Path] = Counter()
        self.failed: set[Path] = set()

    def _keys(self) -> dict[str, str]:
        return {name: entry.get("key") for name, entry in results.read_summary(self.root).items()}

    @pytest.hookimpl(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        source = _source_of(collection_path.resolve(), self.root)
        if source is None:
            return None
        entry = results.read_summary(self.root).get(source.as_posix(), {})
        proved = entry.get("key") and entry.get("proved") == entry["key"]
        return True if proved else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        path = (self.rootpath / report.nodeid.partition("::")[0]).resolve()
        if _source_of(path, self.root) is None:
            return
        if report.failed:
            self.failed.add(path)
        elif report.when == "call":  # passed, or skipped by nbval's own tag
            self.passed[path] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):  # the process that hears of all results writes
            return
        for path, count in self.passed.items():
            if path in self.failed or count < _code_cells(path):
                continue
            source = _source_of(path, self.root)
            entry = results.read_summary(self.root).get(source.as_posix(), {})
            # A notebook that was executed anew in the meantime is another.
            if entry.get("key") and entry["key"] == self.keys.get(source.as_posix()):
                results.update_summary(self.root, source, {**entry, "proved": entry["key"]})


def _give_environment(environment: dict[str, str]) -> None:
    """Make nbval start its kernels with our environment."""
    from nbval import kernel

    start = kernel.start_new_kernel

    def start_with_environment(*args: Any, **options: Any) -> Any:
        return start(*args, **{**options, "env": environment})

    kernel.start_new_kernel = start_with_environment


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin's hooks."""
    proofs = Proofs(project.find_root(config.rootpath), config.rootpath)
    config.pluginmanager.register(proofs, "dlcourse-proofs")
    if any(config.pluginmanager.hasplugin(name) for name in ("nbval", "nbval.plugin")):
        environment = kernel_environment()
        _give_environment(environment.__enter__())
        config.add_cleanup(lambda: environment.__exit__(None, None, None))
