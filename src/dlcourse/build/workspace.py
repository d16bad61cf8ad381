"""The folder in which a learner works: copies of the notebooks that nothing overwrites.

``chapters/`` holds what is generated from the sources; ``workspace/`` what a person edits. It is
filled once: a notebook that is there already stays as it is, and is only named when the course has
a newer edition of it.
"""

from __future__ import annotations

import hashlib
import json
import re
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


def edition(text: str) -> str:
    """A short name of a notebook's content, which the copy carries in its metadata.

    The commit or release that its first cell installs does not count.
    """
    cells = json.loads(re.sub(r"(?<=@)[\w.]+(?=\\\")", "", text))["cells"]
    content = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


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
            notebook = json.loads(text)
            notebook["metadata"].setdefault("dlcourse", {})["edition"] = edition(text)
            write_atomic(target, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
            yield Copy(target, "made")
        else:
            yield Copy(target, "outdated" if _edition_of(target) != edition(text) else "kept")


def _edition_of(copy: Path) -> str | None:
    """The edition that a copy was made from; None where it does not say."""
    try:
        return json.loads(copy.read_text(encoding="utf8"))["metadata"]["dlcourse"]["edition"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
