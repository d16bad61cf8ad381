"""MyST Markdown made plain, for notebooks that are read outside of the site.

JupyterLab and Colab know Markdown and formulas, but not MyST's roles, directives and labels. This
module turns those that the chapters use into plain Markdown. What it does not know is an error, so
that a new directive is noticed and not shown raw to a learner.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

_LABEL_LINE = re.compile(r"^\(([^()\s]+)\)=\s*$")
_FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,}|~{3,}|:{3,})(?P<info>.*)$")
_DIRECTIVE = re.compile(r"^\{(?P<name>[\w:.-]+)\}\s*(?P<argument>.*)$")
_OPTION = re.compile(r"^:(?P<key>[\w-]+):\s*(?P<value>.*)$")
_MATH_END = re.compile(r"^(?P<body>.*?)\$\$\s*(?:\((?P<label>[^()\s]+)\))?\s*$")
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
_INLINE = re.compile(
    r"(?P<keep>``.+?``|\$\$.+?\$\$)"
    r"|\{(?P<role>[a-zA-Z][\w:.-]*)\}(?P<ticks>`+)(?P<content>.+?)(?P=ticks)"
    r"|(?P<code>`[^`]+`|(?<![\\$])\$(?=\S)[^$]*?(?<=\S)\$|\\.)"
    r"|(?P<attributes>(?<=[\])`])\{\s*(?:[.#][\w-]+|[\w-]+=(?:\"[^\"]*\"|[^\s}]+))"
    r"(?:\s+(?:[.#][\w-]+|[\w-]+=(?:\"[^\"]*\"|[^\s}]+)))*\s*\})"
    r"|(?P<substitution>\{\{.+?\}\})",
    re.DOTALL,
)
_TARGET = re.compile(r"^(?P<text>.*?)\s*<(?P<target>[^<>]+)>$", re.DOTALL)

_QUOTES = {
    "admonition": "",
    "attention": "Attention",
    "caution": "Caution",
    "danger": "Danger",
    "dropdown": "",
    "error": "Error",
    "epigraph": "",
    "hint": "Hint",
    "important": "Important",
    "margin": "",
    "note": "Note",
    "seealso": "See also",
    "sidebar": "",
    "tip": "Tip",
    "topic": "",
    "warning": "Warning",
}
_HEADED = {
    "exercise": "Exercise",
    "exercise-start": "Exercise",
    "prf:algorithm": "Algorithm",
    "prf:assumption": "Assumption",
    "prf:corollary": "Corollary",
    "prf:definition": "Definition",
    "prf:example": "Example",
    "prf:lemma": "Lemma",
    "prf:proof": "Proof",
    "prf:property": "Property",
    "prf:proposition": "Proposition",
    "prf:remark": "Remark",
    "prf:theorem": "Theorem",
}
_TRANSPARENT = {"tab-set", "div", "container"}
_DROPPED = {"contents", "tableofcontents", "index", "exercise-end", "solution"}
_CODE_ROLES = {"code", "file", "command", "option", "envvar", "program", "samp"}
_CITE_ROLES = {
    "cite": "p",
    "cite:p": "p",
    "cite:ps": "p",
    "cite:t": "t",
    "cite:ts": "t",
    "cite:alp": "alp",
    "cite:author": "author",
    "cite:year": "year",
}


class MystError(ValueError):
    """Markdown that cannot be made plain: an unknown role, directive, label or citation."""


@dataclass(frozen=True)
class Work:
    """One entry of the bibliography."""

    authors: str
    year: str
    title: str
    url: str | None


@dataclass
class Target:
    """What a label of the book names: readable text, and the page that it is on."""

    text: str
    document: str | None = None  # path without suffix, relative to the root


@dataclass
class Context:
    """What a notebook's Markdown refers to; filled by ``collect`` before ``flatten`` is called."""

    document: str = ""
    labels: dict[str, Target] = field(default_factory=dict)  # of the whole book
    titles: dict[str, str] = field(default_factory=dict)  # of the book's documents
    equations: dict[str, int] = field(default_factory=dict)  # of this notebook, from 1
    figures: dict[str, int] = field(default_factory=dict)  # of this notebook, from 1
    tables: dict[str, int] = field(default_factory=dict)
    cited: list[str] = field(default_factory=list)
    works: Callable[[], dict[str, Work]] = dict
    strict: bool = True


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
class _Directive:
    name: str
    argument: str
    options: dict[str, str]
    body: list[str]


def _closing(lines: list[str], start: int, marks: str) -> int:
    """Index of the line that closes the fence opened at ``start`` (or one past the last line)."""
    pattern = re.compile(rf"^ *{re.escape(marks[0])}{{{len(marks)},}}\s*$")
    for index in range(start + 1, len(lines)):
        if pattern.match(lines[index]):
            return index
    return len(lines)


def _parse_directive(name: str, argument: str, body: list[str]) -> _Directive:
    options: dict[str, str] = {}
    body = list(body)
    if body and body[0].strip() == "---" and "---" in [line.strip() for line in body[1:]]:
        body.pop(0)
        while body[0].strip() != "---":
            key, _, value = body.pop(0).partition(":")
            options[key.strip()] = value.strip()
        body.pop(0)
    else:
        while body and (option := _OPTION.match(body[0].strip())):
            options[option["key"]] = option["value"].strip()
            body.pop(0)
    while body and not body[0].strip():
        body.pop(0)
    while body and not body[-1].strip():
        body.pop()
    return _Directive(name, argument.strip(), options, body)


def _quote(lines: list[str]) -> list[str]:
    return [f"> {line}".rstrip() for line in lines]


def _titled(title: str, body: list[str]) -> list[str]:
    head = [f"**{title}**"] if title else []
    return [*head, *([""] if head and body else []), *body]


def _formula(body: list[str], label: str | None, context: Context) -> list[str]:
    if r"\\" in "".join(body) and not body[0].lstrip().startswith(r"\begin"):
        # Sphinx aligns the lines of such a formula by itself; MathJax alone does not.
        body = [r"\begin{aligned}", *body, r"\end{aligned}"]
    number = context.equations.get(label or "")
    tag = [rf"\tag{{{number}}}"] if number else []
    return ["$$", *body, *tag, "$$"]


def _figure_caption(kind: str, numbers: dict[str, int], label: str | None, text: str) -> str:
    number = numbers.get(label or "")
    if number is None:
        return f"*{text}*" if text else ""
    return f"**{kind} {number}.** {text}".rstrip()


def _image(directive: _Directive, context: Context) -> list[str]:
    caption = _inline("\n".join(directive.body), context)
    alt = directive.options.get("alt") or " ".join(caption.split())
    lines = [f"![{alt}]({directive.argument})"]
    text = _figure_caption("Figure", context.figures, directive.options.get("name"), caption)
    return [*lines, "", text] if text else lines


def _bibliography(context: Context) -> list[str]:
    works = context.works()
    lines = []
    for key in sorted(context.cited, key=lambda key: (works[key].authors, works[key].year)):
        work = works[key]
        title = f"[{work.title}]({work.url})" if work.url else work.title
        lines.append(f"- {work.authors} ({work.year}). {title}.")
    return lines


def _render_directive(directive: _Directive, context: Context) -> list[str]:
    name, argument = directive.name, _inline(directive.argument, context)
    if name in _QUOTES:
        title = argument or _QUOTES[name]
        return _quote(_titled(title, _blocks(directive.body, context)))
    if name == "tab-item":
        return _titled(argument, _blocks(directive.body, context))
    if name == "table":
        label = directive.options.get("name")
        caption = _figure_caption("Table", context.tables, label, argument)
        return [caption, "", *_blocks(directive.body, context)]
    if name in _HEADED:
        title = f"{_HEADED[name]}: {argument}" if argument else _HEADED[name]
        return _titled(title, _blocks(directive.body, context))
    if name in _TRANSPARENT:
        return _blocks(directive.body, context)
    if name in ("figure", "image"):
        return _image(directive, context)
    if name == "math":
        label = directive.options.get("label")
        return _formula([*filter(None, [directive.argument]), *directive.body], label, context)
    if name in ("code", "code-block", "sourcecode"):
        return [f"```{directive.argument}", *directive.body, "```"]
    if name == "bibliography":
        return _bibliography(context)
    if name in _DROPPED:
        return []
    return _unknown(f"directive {{{name}}}", ["", *directive.body], context)


def _unknown(what: str, fallback: Any, context: Context) -> Any:
    if context.strict:
        raise MystError(
            f"{what} has no plain form; use one that dlcourse.build.myst knows, tag the cell "
            "site-only, or teach the module"
        )
    return fallback


def _math_block(lines: list[str], start: int) -> tuple[list[str], str | None, int] | None:
    """Body, label and next index of the ``$$`` block at ``start``; None if it is not closed."""
    rest = lines[start].lstrip()[2:]
    body: list[str] = []
    for index in range(start, len(lines)):
        line = rest if index == start else lines[index]
        if end := _MATH_END.match(line):
            body += [end["body"]] if end["body"].strip() else []
            return body, end["label"], index + 1
        if line.strip():
            body.append(line)
    return None


def _blocks(lines: list[str], context: Context) -> list[str]:
    """Plain Markdown of a run of lines."""
    out: list[str] = []
    prose: list[str] = []

    def flush() -> None:
        if prose:
            out.extend(_inline("\n".join(prose), context).split("\n"))
            prose.clear()

    index = 0
    while index < len(lines):
        line = lines[index]
        fence = _FENCE.match(line)
        directive = _DIRECTIVE.match(fence["info"].strip()) if fence else None
        if fence and (directive or fence["marks"][0] != ":"):
            flush()
            end = _closing(lines, index, fence["marks"])
            indent = len(fence["indent"])
            body = (
                [
                    part[indent:] if part[:indent].isspace() else part
                    for part in lines[index + 1 : end]
                ]
                if indent
                else lines[index + 1 : end]
            )
            if directive:
                parsed = _parse_directive(directive["name"], directive["argument"], body)
                rendered = _render_directive(parsed, context)
                out.extend(fence["indent"] + part if part else part for part in rendered)
            else:
                out.extend(lines[index : end + 1])
            index = end + 1
        elif line.lstrip().startswith("$$") and (block := _math_block(lines, index)):
            flush()
            body, label, index = block
            out.extend(_formula(body, label, context))
        elif _LABEL_LINE.match(line) or line.startswith("%") or line.strip() == "+++":
            index += 1
        else:
            prose.append(line)
            index += 1
    flush()
    return out


# --- inline ---------------------------------------------------------------------------------------


def _citation(style: str, keys: str, context: Context) -> str:
    works = context.works()
    cited = []
    for key in (key.strip().lower() for key in keys.split(",")):
        if key not in works:
            return _unknown(f"citation of {key!r} (not in references.bib)", keys, context)
        if key not in context.cited:
            context.cited.append(key)
        work = works[key]
        text = {
            "t": f"{work.authors} ({work.year})",
            "author": work.authors,
            "year": work.year,
        }.get(style, f"{work.authors}, {work.year}")
        cited.append(f"[{text}]({work.url})" if work.url else text)
    if style == "p":
        return f"({'; '.join(cited)})"
    return (" and " if len(cited) == 2 else "; " if style == "alp" else ", ").join(cited)


def _link(text: str, document: str | None, context: Context) -> str:
    """``text``, linked to the notebook of ``document`` when that is another chapter page."""
    if document is None or document == context.document or not document.startswith("chapters/"):
        return text
    path = os.path.relpath(document + ".ipynb", os.path.dirname(context.document))
    return f"[{text}]({Path(path).as_posix()})"


def _reference(role: str, content: str, context: Context) -> str:
    explicit = _TARGET.match(content)
    text, label = (explicit["text"], explicit["target"]) if explicit else ("", content)
    label = label.strip()
    if role == "doc":
        path = (
            label.lstrip("/")
            if label.startswith("/")
            else os.path.normpath(os.path.join(os.path.dirname(context.document), label))
        )
        path = Path(path).as_posix()
        if path not in context.titles:
            return _unknown(f"reference to the page {label!r} (not found)", text or label, context)
        return _link(text or context.titles[path], path, context)
    if role == "eq" or label in context.equations:
        if label in context.equations:
            return f"({context.equations[label]})"
        if label in context.labels:
            target = context.labels[label]
            title = context.titles.get(target.document or "", target.document)
            return _link(f"the equation in “{title}”", target.document, context)
        return _unknown(f"reference to the equation {label!r} (no such label)", label, context)
    for kind, numbers in (("Figure", context.figures), ("Table", context.tables)):
        if label in numbers:
            number = str(numbers[label])
            if text:
                return text.replace("%s", number).replace("{number}", number)
            return f"{kind} {number}"
    if label in context.labels:
        target = context.labels[label]
        shown = text.replace("%s", "").replace("{name}", target.text).strip() or target.text
        return _link(shown, target.document, context)
    return _unknown(f"reference to {label!r} (no such label)", text or label, context)


def _role(role: str, content: str, context: Context) -> str:
    content = " ".join(content.split())
    if role in _CITE_ROLES:
        return _citation(_CITE_ROLES[role], content, context)
    if role in ("eq", "ref", "numref", "doc", "prf:ref"):
        return _reference(role, content, context)
    if role == "math":
        return f"${content}$"
    if role in ("sub", "sup", "kbd"):
        return f"<{role}>{content}</{role}>"
    if role in _CODE_ROLES or role.startswith("py:"):
        return f"`{content.lstrip('~!')}`"
    if role in ("abbr", "term", "index", "strong", "emphasis"):
        explicit = _TARGET.match(content)
        return explicit["text"] if explicit and role != "abbr" else content
    return _unknown(f"role {{{role}}}", content, context)


def _inline(text: str, context: Context) -> str:
    def plain(match: re.Match[str]) -> str:
        if match["role"]:
            return _role(match["role"], match["content"], context)
        if match["attributes"]:
            return ""
        if match["substitution"]:
            return _unknown(f"substitution {match['substitution']}", match[0], context)
        return match[0]

    return _INLINE.sub(plain, text)


# --- whole notebooks ------------------------------------------------------------------------------


def _number(numbers: dict[str, int], label: str | None) -> None:
    if label and label not in numbers:
        numbers[label] = len(numbers) + 1


def collect(text: str, context: Context) -> None:
    """Number the labelled equations, figures and tables of one Markdown cell, in order."""
    lines = text.split("\n")
    index = 0
    while index < len(lines):
        fence = _FENCE.match(lines[index])
        directive = _DIRECTIVE.match(fence["info"].strip()) if fence else None
        if fence and (directive or fence["marks"][0] != ":"):
            end = _closing(lines, index, fence["marks"])
            if directive:
                body = [line.strip() for line in lines[index + 1 : end]]
                parsed = _parse_directive(directive["name"], directive["argument"], body)
                if parsed.name == "math":
                    _number(context.equations, parsed.options.get("label"))
                elif parsed.name == "figure":
                    _number(context.figures, parsed.options.get("name"))
                elif parsed.name == "table":
                    _number(context.tables, parsed.options.get("name"))
                elif parsed.name not in ("code", "code-block", "sourcecode"):
                    collect("\n".join(lines[index + 1 : end]), context)
                if parsed.options.get("label") and parsed.name != "math":
                    shown = parsed.argument or _HEADED.get(parsed.name, "") or parsed.name
                    context.labels[parsed.options["label"]] = Target(shown, context.document)
            index = end + 1
        elif lines[index].lstrip().startswith("$$") and (block := _math_block(lines, index)):
            _number(context.equations, block[1])
            index = block[2]
        else:
            index += 1


def scan_labels(text: str, document: str) -> tuple[str | None, dict[str, Target]]:
    """Title and labels of one document's Markdown, for references from other documents."""
    title: str | None = None
    labels: dict[str, Target] = {}
    waiting: list[str] = []
    in_code = ""
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if in_code:
            in_code = "" if fence and line.strip().startswith(in_code) else in_code
            continue
        if fence and fence["marks"][0] != ":" and not fence["info"].strip().startswith("{"):
            in_code = fence["marks"]
        elif heading := _HEADING.match(line):
            name = re.sub(r"\{[\w:.-]+\}`([^`]*)`", r"\1", heading[2])
            title = title or name
            labels.update({label: Target(name, document) for label in waiting})
            waiting = []
        elif match := _LABEL_LINE.match(line):
            waiting.append(match[1])
        elif end := re.match(r"^.*\$\$\s*\(([^()\s]+)\)\s*$", line):
            labels[end[1]] = Target("the equation", document)
        elif line.strip():
            option = re.match(r"^\s*:(?:label|name):\s*(\S+)", line)
            if option:
                labels[option[1]] = Target(option[1], document)
    labels.update({label: Target(title or document, document) for label in waiting})
    return title, labels


def flatten(text: str, context: Context) -> str:
    """Plain Markdown of one cell. Raises MystError for what has no plain form (if strict)."""
    lines = _blocks(text.split("\n"), context)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
