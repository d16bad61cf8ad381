"""The folder in which a learner works: copies of the notebooks that nothing overwrites.

``chapters/`` holds what is generated from the sources; ``workspace/`` what a person edits. It is
filled once: a notebook that is there already stays as it is, and is only named when the course has
a newer edition of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlcourse.build.learner import pair_path
from dlcourse.files import write_atomic

WORKSPACE = Path("workspace")


@dataclass(frozen=True)
class Copy:
    """One notebook of the workspace: ``made``, ``kept``, or ``outdated`` (kept, and older)."""

    path: Path
    state: str


def fill(root: Path, sources: Sequence[Path], folder: Path | None = None) -> Iterator[Copy]:
    """Copy the learner's notebook of each source that the workspace has not yet.

    Args:
        root: the checkout.
        sources: relative to ``root``.
        folder: the workspace; by default ``workspace`` in the checkout.
    """
    folder = folder or root / WORKSPACE
    for source in sources:
        text = pair_path(root / source).read_text(encoding="utf8")
        target = folder / source.relative_to("chapters").with_suffix(".ipynb")
        if not target.exists():
            write_atomic(target, text)
            yield Copy(target, "made")
        else:
            same = _edition_of(target.read_text(encoding="utf8")) == _edition_of(text)
            yield Copy(target, "kept" if same else "outdated")


def _edition_of(text: str) -> str | None:
    """The edition that a notebook was made from; None where it does not say."""
    try:
        return json.loads(text)["metadata"]["dlcourse"]["edition"]
    except (ValueError, KeyError, TypeError):
        return None
