"""The README's map of the systems, generated from ``book/systems.yml`` and what is there.

``dlcourse readme`` writes it; with ``--check`` it only says whether it is current.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dlcourse.build import systems

BEGIN, END = "<!-- systems -->", "<!-- end of systems -->"


class ReadmeError(ValueError):
    """The README has no place for the map."""


def _place(root: Path, *candidates: str) -> str | None:
    """The first of the candidates that is there: a file, or a folder."""
    return next((path for path in candidates if (root / path).exists()), None)


def _link(text: str, path: str | None) -> str:
    return f"[{text}]({path})" if path else ""


def _row(root: Path, system: systems.System) -> str:
    if not system.is_here(root):
        return f"| {system.section} | {system.title} | *to come* | | |"
    package, name = system.chapter.package, system.name
    module = _place(root, f"src/dlcourse/{package}/{name}", f"src/dlcourse/{package}/{name}.py")
    test = _place(root, f"tests/{package}/{name}", f"tests/{package}/test_{name}.py")
    cells = (
        system.section,
        system.title,
        _link(system.stem, f"{system.page}.ipynb"),
        _link(f"{package}.{name}", module),
        _link(Path(test).name, test) if test else "",
    )
    return f"| {' | '.join(cells)} |"


def _lines(root: Path) -> Iterator[str]:
    here, total = systems.count(root)
    yield f"{here} of {total} systems are here."
    yield ""
    yield "| section | system | page | package `dlcourse.…` | tests |"
    yield "|---|---|---|---|---|"
    for chapter in systems.read(root):
        yield f"| **{chapter.number}** | **{chapter.title}** | | | |"
        for system in chapter.systems:
            yield _row(root, system)


def generate(root: Path) -> str:
    """The README's text with the map as it should be.

    Raises ReadmeError when the README lacks one of the two comments that enclose the map.
    """
    text = (root / "README.md").read_text(encoding="utf8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ReadmeError(f"README.md lacks {BEGIN} or {END}, between which the map stands")
    return "\n".join([before + BEGIN, *_lines(root), END + after])
