"""The instructor's edition: notebooks with solutions and timing notes, and slides.

Both are made from the chapter's source, with the outputs of the last ``dlcourse run``. What an
instructor changed in an earlier edition is kept beside the new one (``dlcourse.files``).
A cell becomes part of the slides by its tag: ``slide`` and ``subslide`` begin a new one,
``fragment`` adds to it at the next key press, ``notes`` is for the speaker, ``skip`` is left out;
an untagged cell continues the slide before it. The tags are also written as Jupyter's own
slideshow metadata, for RISE and ``jupyter nbconvert --to slides``. The HTML made here is a small
deck of our own, since the one of nbconvert loads its scripts from the network.
"""

from __future__ import annotations

import copy
import functools
import html
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from dlcourse.build.exercise_cells import solution_markdown
from dlcourse.exercises.registry import find_exercise
from dlcourse.files import kept_note, replace_own

SLIDE_TAGS = ("slide", "subslide", "fragment", "notes", "skip")
MATHJAX = "mathjax.js"


def build(
    root: Path,
    sources: Sequence[Path],
    out: Path,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write the instructor's notebook of each source below ``out``, and slides if it has any.

    ``sources`` are paths relative to ``root``. ``tell`` gets a line for each thing that is begun or
    done. Returns the files that were written.
    """
    from dlcourse.build.results import read_summary
    from dlcourse.build.learner import learner_notebook
    from dlcourse.build.sources import notebook_text

    written: list[Path] = []

    def write(path: Path, text: str, what: str) -> None:
        kept = replace_own(path, text)
        written.append(path)
        tell(f"  {what}: {path}")
        if kept:
            tell(f"  {kept_note(path, kept)}")

    summary = read_summary(root)
    for number, source in enumerate(sources, start=1):
        tell(f"{number} of {len(sources)}: {source.as_posix()}")
        plain = learner_notebook(root / source, root)
        outputs = executed_outputs(root, source)
        if not outputs:
            tell("  no outputs: `dlcourse run` has not executed it")
        target = (out / source.relative_to("chapters")).with_suffix(".ipynb")
        note = timing_note(summary.get(source.as_posix()))
        write(target, notebook_text(instructor_notebook(plain, note, outputs)), "notebook")
        deck = slides(plain, outputs)
        if not deck:
            tell("  no slides, since no cell is tagged `slide`")
            continue
        page = target.with_suffix(".slides.html")
        mathjax = mathjax_source()
        if mathjax:
            replace_own(page.with_name(MATHJAX), mathjax)
        write(page, slides_html(deck, target.stem, bool(mathjax)), f"{len(deck)} slides")
    return written


def timing_note(entry: dict[str, Any] | None) -> str:
    """What the last run of a notebook measured, in words."""
    if not entry or entry.get("result") != "ok":
        return (
            "**For the instructor.** This notebook has not been measured here: "
            "`dlcourse run` executes it and notes its time and memory."
        )
    return (
        f"**For the instructor.** Executing all cells took {entry['seconds']:.0f} s and "
        f"{entry['peak_memory_mb']:.0f} MB on {entry['device']} ({entry['date'][:10]}). "
        "Solutions follow their exercises."
    )


def instructor_notebook(
    plain: Any, note: str, outputs: Mapping[str, list[Any]] | None = None
) -> Any:
    """A copy of the learner's notebook with a note after its title and the solutions in place.

    ``outputs`` are those of its code cells, by their source.
    """
    from nbformat.v4 import new_markdown_cell

    edition = copy.deepcopy(plain)
    edition.cells = []
    noted = False
    for index, cell in enumerate(plain.cells):
        cell = copy.deepcopy(cell)
        _mark_slide(cell)
        if cell.cell_type == "code":
            cell.outputs = copy.deepcopy((outputs or {}).get(cell.source, []))
        edition.cells.append(cell)
        if not noted and cell.cell_type == "markdown":
            edition.cells.append(new_markdown_cell(note, id="instructor-note"))
            noted = True
        key = _key(cell)
        following = plain.cells[index + 1] if index + 1 < len(plain.cells) else None
        if key and key != _key(following) and cell.metadata["dlcourse"]["role"] != "quiz":
            name = f"solution-{key.replace('.', '-')}"[:64]
            tags = {"tags": ["solution"]}
            edition.cells.append(new_markdown_cell(plain_solution(key), id=name, metadata=tags))
    return edition


def plain_solution(key: str) -> str:
    """The solution of an exercise as plain Markdown."""
    lines = solution_markdown(find_exercise(key)).splitlines()
    body = [line for line in lines[1:-1] if not line.startswith((":label:", ":class:"))]
    return "**Solution**\n\n" + "\n".join(body).strip()


def _key(cell: Any) -> str | None:
    return cell.metadata.get("dlcourse", {}).get("key") if cell is not None else None


def _slide_tag(cell: Any) -> str | None:
    return next((tag for tag in cell.metadata.get("tags", []) if tag in SLIDE_TAGS), None)


def _mark_slide(cell: Any) -> None:
    tag = _slide_tag(cell)
    if tag:
        cell.metadata["slideshow"] = {"slide_type": tag}


def executed_outputs(root: Path, source: Path) -> dict[str, list[Any]]:
    """Outputs of the code cells of the last run, by the cell's source."""
    import nbformat

    from dlcourse.build.results import executed_path

    path = executed_path(root, source)
    if not path.exists():
        return {}
    cells = nbformat.read(path, as_version=4).cells
    return {cell.source: cell.outputs for cell in cells if cell.cell_type == "code"}


def slides(notebook: Any, outputs: dict[str, list[Any]]) -> list[list[tuple[str, Any]]]:
    """The slides: for each its cells with their role (``slide``, ``fragment`` or ``notes``)."""
    deck: list[list[tuple[str, Any]]] = []
    for cell in notebook.cells:
        tag = _slide_tag(cell)
        if tag in ("slide", "subslide"):
            deck.append([])
        if tag == "skip" or not deck:
            continue
        cell = copy.deepcopy(cell)
        if cell.cell_type == "code":
            cell.outputs = outputs.get(cell.source, [])
        deck[-1].append((tag if tag in ("fragment", "notes") else "slide", cell))
    return deck


def slides_html(deck: list[list[tuple[str, Any]]], title: str, mathjax: bool) -> str:
    """One page with all slides, moved by the arrow keys; it loads nothing from the network."""
    sections = "\n".join(
        '<section class="slide">' + "\n".join(_part(*part) for part in slide) + "</section>"
        for slide in deck
    )
    script = f'<script src="{MATHJAX}" defer></script>' if mathjax else ""
    return _PAGE.replace("@TITLE@", html.escape(title)).replace("@MATHJAX@", script).replace(
        "@SLIDES@", sections
    )


def _part(role: str, cell: Any) -> str:
    kind = {"fragment": ' class="fragment"', "notes": ' class="notes"'}.get(role, "")
    return f"<div{kind}>{_render(cell)}</div>"


def _render(cell: Any) -> str:
    from nbformat.v4 import new_notebook

    exporter = _exporter()
    hidden = {"hide-input", "remove-input", "hide-cell"} & set(cell.metadata.get("tags", []))
    exporter.exclude_input = bool(hidden)
    body, _ = exporter.from_notebook_node(new_notebook(cells=[cell]))
    return body


@functools.cache
def _exporter() -> Any:
    """One for all cells: each would compile its templates again, a fifth of a second."""
    from nbconvert import HTMLExporter

    return HTMLExporter(template_name="basic", exclude_input_prompt=True)


def mathjax_source() -> str | None:
    """MathJax in one file, with its glyphs, from the wheel of the book; None without it."""
    try:
        files = metadata.files("sphinx-mathjax-offline") or []
    except metadata.PackageNotFoundError:
        return None
    found = (file for file in files if file.name == "tex-svg.js")
    return next((file.read_text(encoding="utf8") for file in found), None)


_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; }
body { font: 1.5rem/1.4 system-ui, sans-serif; margin: 0; }
.slide { box-sizing: border-box; min-height: 100vh; padding: 4vh 8vw; overflow-x: auto; }
.js .slide, .js .fragment, .notes { display: none; }
.js .slide.now, .js .fragment.seen { display: block; }
.speaker .notes { display: block; border-left: 4px solid; padding-left: 1rem; }
.slide > div { font-size: calc(1.5rem * var(--size, 1)); }
pre { font-size: calc(1.1rem * var(--size, 1)); white-space: pre-wrap; }
img, .slide svg { max-width: 100%; max-height: 80vh; }
a.anchor-link { display: none; }
#where { position: fixed; right: 1rem; bottom: 0.5rem; font-size: 1rem; }
@media print {
  .js .slide, .js .fragment { display: block; }
  .slide { break-after: page; }
  #where { display: none; }
}
</style>
<script>
MathJax = {tex: {inlineMath: [["$", "$"], ["\\\\(", "\\\\)"]]}, svg: {fontCache: "global"}};
</script>
@MATHJAX@
</head><body>
<main>
@SLIDES@
</main>
<p id="where" role="status" aria-live="polite"></p>
<script>
document.documentElement.classList.add("js");
var all = Array.from(document.querySelectorAll(".slide"));
var now = Math.min(all.length, Math.max(1, parseInt(location.hash.slice(1)) || 1)) - 1;
function show(index, whole) {
  now = Math.min(all.length - 1, Math.max(0, index));
  all.forEach(function (slide, i) { slide.classList.toggle("now", i === now); });
  all[now].querySelectorAll(".fragment").forEach(function (fragment) {
    fragment.classList.toggle("seen", !!whole);
  });
  document.getElementById("where").textContent = (now + 1) + " / " + all.length;
  history.replaceState(null, "", "#" + (now + 1));
  window.scrollTo(0, 0);
  fit();
}
// A slide that is taller than the window is shown smaller, down to where it can still be read.
function fit() {
  var slide = all[now], sizes = [1, 0.9, 0.8, 0.7, 0.6, 0.5];
  for (var i = 0; i < sizes.length; i++) {
    slide.style.setProperty("--size", sizes[i]);
    if (slide.scrollHeight <= window.innerHeight + 1) break;
  }
}
window.addEventListener("resize", fit);
window.addEventListener("load", fit);
document.addEventListener("keydown", function (event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (["ArrowRight", "PageDown", " "].includes(event.key)) {
    var next = all[now].querySelector(".fragment:not(.seen)");
    if (next) { next.classList.add("seen"); fit(); } else if (now < all.length - 1) show(now + 1);
  } else if (["ArrowLeft", "PageUp"].includes(event.key)) {
    if (now > 0) show(now - 1, true);
  } else if (event.key === "Home") show(0);
  else if (event.key === "End") show(all.length - 1);
  else if (event.key === "s") document.documentElement.classList.toggle("speaker");
  else return;
  event.preventDefault();
});
show(now);
</script>
</body></html>
"""
