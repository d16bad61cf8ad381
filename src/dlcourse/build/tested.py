"""A pytest plugin: where nothing has changed since all tests passed, they are not run again.

``pytest -p dlcourse.build.tested --skip-if-proved`` compares a digest of the whole working tree, of
the executed notebooks and of the installed versions with that of the last run in which every test
passed. On a fresh machine there is no such run, so there everything is run.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest

from dlcourse.build import project
from dlcourse.build.results import EXECUTED
from dlcourse.files import write_atomic

SITE = Path("_build/html")
STAMP = Path("_build/tested.json")


def tree_digest(root: Path, arguments: list[str]) -> str | None:
    """SHA-256 of all that the tests can depend on; None where git can't list the files.

    Files that git tracks or would track, executed notebooks, built pages, the versions of Python
    and of all installed distributions, and the command line.
    """
    command = ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    names = {name for name in listed.split("\0") if name}
    names |= {p.relative_to(root).as_posix() for p in (root / EXECUTED).rglob("*.ipynb")}
    names |= {p.relative_to(root).as_posix() for p in (root / SITE).rglob("*.html")}
    digest = hashlib.sha256()
    for name in sorted(names):
        file = root / name
        content = file.read_bytes() if file.is_file() else b"gone"
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    installed = sorted(f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions())
    digest.update(json.dumps([sys.version, installed, arguments]).encode())
    return digest.hexdigest()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option ``--skip-if-proved``."""
    parser.addoption(
        "--skip-if-proved",
        action="store_true",
        help="run nothing if all tests have passed and nothing has changed since",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """End at once, with the closing line of the run that passed, where nothing has changed."""
    if not config.getoption("skip_if_proved") or hasattr(config, "workerinput"):
        return None
    root = project.find_root(config.rootpath)
    now = tree_digest(root, list(config.invocation_params.args))
    try:
        last = json.loads((root / STAMP).read_text(encoding="utf8"))
    except (OSError, ValueError):
        last = {}
    if now and last.get("digest") == now:
        print(f"Nothing has changed since all tests passed on {last['date']}.")
        print(f"== {last['summary']} ==")
        return 0
    config.stash[_DIGEST] = now
    return None


_DIGEST = pytest.StashKey[str | None]()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Remember that all tests passed, if nothing was changed while they ran."""
    before = config.stash.get(_DIGEST, None)
    if before is None or exitstatus != 0:
        return
    root = project.find_root(config.rootpath)
    if tree_digest(root, list(config.invocation_params.args)) == before:
        stats = terminalreporter.stats
        counts = {word: len(stats.get(word, [])) for word in ("passed", "skipped", "xfailed")}
        said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        date = datetime.now(UTC).isoformat(" ", "minutes")
        stamp = {"digest": before, "summary": said, "date": date}
        write_atomic(root / STAMP, json.dumps(stamp) + "\n")
