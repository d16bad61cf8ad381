"""MyST Markdown made plain, for notebooks that are read outside of the site.

JupyterLab and Colab know Markdown and formulas, but not MyST's roles, directives and labels. This
module turns those that the chapters use into plain Markdown:

- labels above headings, which are left out, and ``{ref}`` and ``{doc}`` with a text of their own,
- formulas with a label, and ``{eq}``; both are numbered within the notebook,
- ``{diagram}`` and ``{numref}``, numbered too (a figure of a code cell counts with them),
- ``{cite:p}``, and the statement of an ``{exercise}``.

Anything else is an error, so that it is noticed and not shown raw to a learner.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

_LABEL_LINE = re.compile(r"^\(([^()\s]+)\)=\s*$")
_FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,}|~{3,}|:{3,})(?P<info>.*)$")
_DIRECTIVE = re.compile(r"^\{(?P<name>[\w:.-]+)\}\s*(?P<argument>.*)$")
_OPTION = re.compile(r"^:(?P<key>[\w-]+):\s*(?P<value>.*)$")
_FORMULA_END = re.compile(r"^(?P<body>.*?)\$\$\s*(?:\((?P<label>[^()\s]+)\))?\s*$")
_INLINE = re.compile(
    r"(?P<formula>\$\$.+?\$\$)(?P<label>[ \t]*\([^()\s]+\)[ \t]*$)?"
    r"|(?P<keep>``.+?``)"
    r"|\{(?P<role>[a-zA-Z][\w:.-]*)\}(?P<ticks>`+)(?P<content>.+?)(?P=ticks)"
    r"|(?P<code>`[^`]+`|(?<![\\$])\$(?=\S)[^$]*?(?<=\S)\$|\\.)"
    r"|(?P<attributes>(?<=[\])])\{\s*(?:[.#][\w-]|[\w-]+=)[^}\n]*\})"
    r"|(?P<substitution>\{\{.+?\}\})"
    r"|(?P<footnote>\[\^[^\]\s]+\])",
    re.DOTALL | re.MULTILINE,
)
_TARGET = re.compile(r"^(?P<text>.+?)\s*<(?P<target>[^<>]+)>$", re.DOTALL)


class MystError(ValueError):
    """Markdown that cannot be made plain; the message says what to write in its place."""


@dataclass(frozen=True)
class Work:
    """One entry of the bibliography."""

    authors: str
    year: str
    title: str
    url: str | None


def _no_drawing(path: str, alt: str) -> str:
    raise MystError(f"there is no drawing {path}")


@dataclass
class Context:
    """What a notebook's Markdown refers to; filled by ``collect`` before ``flatten`` is called.

    ``drawing`` gives the Markdown of a diagram from its path and its alternative text.
    """

    document: str = ""  # path without suffix, relative to the root
    labels: dict[str, str] = field(default_factory=dict)  # of headings in the book: the document
    documents: set[str] = field(default_factory=set)  # of the book
    equations: dict[str, int] = field(default_factory=dict)  # of this notebook, from 1
    figures: dict[str, int] = field(default_factory=dict)  # of this notebook, from 1
    works: Callable[[], dict[str, Work]] = dict
    drawing: Callable[[str, str], str] = _no_drawing


def _refuse(what: str, instead: str) -> NoReturn:
    raise MystError(
        f"{what} has no plain form for the learner's notebook; {instead}, or tag the cell "
        "site-only, or teach dlcourse.build.myst"
    )


# --- the bibliography -----------------------------------------------------------------------------


def _plain(latex: str) -> str:
    from pybtex.richtext import Text

    return " ".join(str(Text.from_latex(latex)).split())


def _authors(persons: list[Any]) -> str:
    names = [_plain(" ".join([*person.prelast_names, *person.last_names])) for person in persons]
    if len(names) > 2:
        return f"{names[0]} et al."
    return " and ".join(names)


def _url(fields: Any) -> str | None:
    if fields.get("doi"):
        return "https://doi.org/" + re.sub(r"^https?://(dx\.)?doi\.org/", "", fields["doi"])
    if fields.get("url"):
        return fields["url"]
    if fields.get("eprint"):
        return "https://arxiv.org/abs/" + fields["eprint"]
    return None


@lru_cache(maxsize=4)
def _read_bibliography(path: Path, mtime: int) -> dict[str, Work]:
    from pybtex.database import parse_file

    works = {}
    for key, entry in parse_file(str(path), bib_format="bibtex").entries.items():
        persons = entry.persons.get("author") or entry.persons.get("editor") or []
        organization = entry.fields.get("organization") or entry.fields.get("institution") or key
        works[key.lower()] = Work(
            authors=_authors(persons) if persons else _plain(organization),
            year=entry.fields.get("year", "n.d."),
            title=_plain(entry.fields.get("title", key)),
            url=_url(entry.fields),
        )
    return works


def read_bibliography(path: Path) -> dict[str, Work]:
    """The works of a BibTeX file by lower-case key; empty when there is no such file."""
    return _read_bibliography(path, path.stat().st_mtime_ns) if path.is_file() else {}


# --- blocks ---------------------------------------------------------------------------------------


@dataclass
class _Block:
    """A run of lines: ``prose``, ``code`` (also of a fence), ``formula`` or ``directive``."""

    kind: str
    lines: list[str]
    name: str = ""  # of a directive
    argument: str = ""
    options: dict[str, str] = field(default_factory=dict)
    indented: bool = False
    label: str | None = None  # of a formula


def _closing(lines: list[str], start: int, marks: str) -> int:
    """Index of the line that closes the fence opened at ``start`` (or one past the last line)."""
    pattern = re.compile(rf"^ *{re.escape(marks[0])}{{{len(marks)},}}\s*$")
    for index in range(start + 1, len(lines)):
        if pattern.match(lines[index]):
            return index
    return len(lines)


def _directive(name: str, argument: str, body: list[str], indented: bool) -> _Block:
    options: dict[str, str] = {}
    if body and body[0].strip() == "---":
        end = next((i for i, line in enumerate(body) if i and line.strip() == "---"), len(body))
        key = ""
        for line in body[1:end]:
            if match := re.match(r"([\w-]+):(?:\s+(.*))?$", line):
                key, line = match[1], match[2] or ""
            options[key] = f"{options.get(key, '')} {line.strip()}".strip()
        body = body[end + 1 :]
    while body and (option := _OPTION.match(body[0].strip())):
        options[option["key"]] = option["value"].strip()
        body = body[1:]
    lines = "\n".join(body).strip("\n").split("\n")
    return _Block("directive", lines, name, argument.strip(), options, indented)


def _formula(lines: list[str], start: int) -> tuple[_Block, int] | None:
    """The ``$$`` block at ``start`` and the next index; None if it is not closed."""
    body: list[str] = []
    for index in range(start, len(lines)):
        line = lines[start][2:] if index == start else lines[index]
        if end := _FORMULA_END.match(line):
            body += [end["body"]] if end["body"].strip() else []
            return _Block("formula", body, label=end["label"]), index + 1
        if line.strip():
            body.append(line)
    return None


def _blocks(text: str) -> Iterator[_Block]:
    """The blocks of one cell, or of a directive's body."""
    lines = text.split("\n")
    prose: list[str] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        fence = _FENCE.match(line)
        directive = _DIRECTIVE.match(fence["info"].strip()) if fence else None
        block = None
        if fence and directive:
            end = _closing(lines, index, fence["marks"])
            body, indented = lines[index + 1 : end], bool(fence["indent"])
            block = _directive(directive["name"], directive["argument"], body, indented)
            index = end + 1
        elif fence and fence["marks"][0] != ":":
            end = _closing(lines, index, fence["marks"])
            block = _Block("code", lines[index : end + 1])
            index = end + 1
        elif line.startswith("$$") and (found := _formula(lines, index)):
            block, index = found
        else:
            prose.append(line)
            index += 1
        if block:
            if prose:
                yield _Block("prose", prose)
                prose = []
            yield block
    if prose:
        yield _Block("prose", prose)


def _diagram_name(block: _Block) -> str:
    return block.options.get("name") or f"fig-{Path(block.argument).stem}"


def _rendered(block: _Block, context: Context) -> list[str]:
    """Plain Markdown of a block."""
    if block.kind == "code":
        return block.lines
    if block.kind == "prose":
        kept = [line for line in block.lines if not _LABEL_LINE.match(line)]
        for line in kept:
            if line.startswith("%") or line.strip() == "+++":
                _refuse(f"the line {line!r} (MyST's comment or break)", "leave it out")
        return _inline("\n".join(kept), context).split("\n")
    if block.kind == "formula":
        body = block.lines
        if r"\\" in "".join(body) and not body[0].lstrip().startswith(r"\begin"):
            # Sphinx aligns the lines of such a formula by itself; MathJax alone does not.
            body = [r"\begin{aligned}", *body, r"\end{aligned}"]
        tag = [rf"\tag{{{context.equations[block.label]}}}"] if block.label else []
        return ["$$", *body, *tag, "$$"]
    if block.indented:
        _refuse(f"the directive {{{block.name}}} in a list", "put it after the list")
    if block.name == "exercise":
        title = "Exercise " + block.argument.removeprefix("Exercise ")
        return [f"**{_inline(title, context)}**", "", *_lines("\n".join(block.lines), context)]
    if block.name == "diagram":
        return _diagram(block, context)
    _refuse(f"the directive {{{block.name}}}", "of directives only {diagram} has; write prose")


def _diagram(block: _Block, context: Context) -> list[str]:
    alt = block.options.get("alt", "")
    caption = " ".join(" ".join(block.lines).split())
    if not alt or not caption:
        lacks = "a caption that says what to see" if alt else "an :alt: that tells what it shows"
        raise MystError(f"the diagram {block.argument} needs {lacks}")
    try:
        image = context.drawing(block.argument, alt)
    except (OSError, ValueError) as error:
        raise MystError(f"the diagram {block.argument}: {error}") from error
    number = context.figures[_diagram_name(block)]
    return [image, "", f"**Figure {number}.** {_inline(caption, context)}"]


def _lines(text: str, context: Context) -> list[str]:
    return [line for block in _blocks(text) for line in _rendered(block, context)]


# --- inline ---------------------------------------------------------------------------------------


def _citation(keys: str, context: Context) -> str:
    works = context.works()
    cited = []
    for key in (key.strip().lower() for key in keys.split(",")):
        if key not in works:
            raise MystError(f"citation of {key!r}: add the work to the chapter's references.bib")
        text = f"{works[key].authors}, {works[key].year}"
        cited.append(f"[{text}]({works[key].url})" if works[key].url else text)
    return f"({'; '.join(cited)})"


def _link(role: str, content: str, context: Context) -> str:
    """The text of a reference, linked to the notebook that it leads to where that is another."""
    explicit = _TARGET.match(content)
    if explicit is None:
        _refuse(f"{{{role}}}`{content}`", f"give it a text: {{{role}}}`text <{content}>`")
    text, target = explicit["text"], explicit["target"].strip()
    if role == "ref":
        document = context.labels.get(target)
    else:
        folder = "" if target.startswith("/") else os.path.dirname(context.document)
        document = Path(os.path.normpath(os.path.join(folder, target.lstrip("/")))).as_posix()
    if document not in context.documents:
        raise MystError(f"{{{role}}} to {target!r}: the book has no such label or page")
    if document == context.document or not document.startswith("chapters/"):
        return text
    path = os.path.relpath(document + ".ipynb", os.path.dirname(context.document))
    return f"[{text}]({Path(path).as_posix()})"


def _number(role: str, label: str, context: Context) -> str:
    numbers, form = {
        "eq": (context.equations, "({})"),
        "numref": (context.figures, "Figure {}"),
    }[role]
    if label not in numbers:
        raise MystError(
            f"{{{role}}} to {label!r}, which is not in this notebook; "
            "refer to the section that has it: {ref}`text <its label>`"
        )
    return form.format(numbers[label])


def _role(role: str, content: str, context: Context) -> str:
    content = " ".join(content.split())
    if role == "cite:p":
        return _citation(content, context)
    if role in ("ref", "doc"):
        return _link(role, content, context)
    if role in ("eq", "numref"):
        return _number(role, content, context)
    known = "{cite:p}, {ref}, {doc}, {eq} and {numref}"
    _refuse(f"the role {{{role}}}", f"of roles only {known} have; write Markdown")


def _inline(text: str, context: Context) -> str:
    def plain(match: re.Match[str]) -> str:
        if match["label"]:
            _refuse(f"the labelled formula {match[0]!r}", "begin it at the start of a line")
        if match["role"]:
            return _role(match["role"], match["content"], context)
        for kind in ("attributes", "substitution", "footnote"):
            if match[kind]:
                _refuse(f"{match[kind]!r} (MyST's {kind})", "write Markdown without it")
        return match[0]

    return _INLINE.sub(plain, text)


# --- whole cells ----------------------------------------------------------------------------------


def collect(text: str, context: Context) -> None:
    """Number the labelled formulas and the diagrams of one Markdown cell, in order."""
    for block in _blocks(text):
        numbers, label = context.equations, block.label
        if block.name == "diagram":
            numbers, label = context.figures, _diagram_name(block)
        elif block.kind == "directive":
            collect("\n".join(block.lines), context)
        if label:
            numbers.setdefault(label, len(numbers) + 1)


def heading_labels(text: str) -> list[str]:
    """The labels that stand in lines of their own in a document's Markdown, and not in code."""
    prose = re.sub(r"^(`{3,}|~{3,})[^{\n]*$.*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    return [match[1] for match in map(_LABEL_LINE.match, prose.split("\n")) if match]


def flatten(text: str, context: Context) -> str:
    """Plain Markdown of one cell. Raises MystError for what has no plain form."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(_lines(text, context))).strip("\n")
