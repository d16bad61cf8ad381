"""The built site, for the tests in this folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built site; skips without one, or fails where that is not allowed."""
    folder = ROOT / "_build" / "html"
    if not (folder / "index.html").is_file():
        message = "the site is not built: run `make book` first"
        if os.environ.get("DLCOURSE_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder
