"""The contents list at the right of a page: exercises stand in it, below their section."""

from __future__ import annotations

from bs4 import BeautifulSoup, Tag
from docutils import nodes

from dlcourse.build.site.exercises import EXERCISE


def is_exercise(node: nodes.Node) -> bool:
    """Whether a node is the statement of an exercise."""
    return isinstance(node, nodes.admonition) and EXERCISE in node["classes"] and bool(node["ids"])


def _section_of(node: nodes.Node) -> nodes.Node | None:
    node = node.parent
    while node is not None and not isinstance(node, nodes.section):
        node = node.parent
    return node


def with_exercises(contents: str, doctree: nodes.document) -> str:
    """``contents``, Sphinx's list of a page's sections as HTML, with the exercises in their places.

    An exercise stands among the subsections of its section, in the order of the page.
    """
    exercises = [node for node in doctree.findall(nodes.admonition) if is_exercise(node)]
    if not exercises:
        return contents
    soup = BeautifulSoup(contents, "html.parser")
    for exercise in exercises:
        section = _section_of(exercise)
        if section is None or (entry := _entry(soup, section)) is None:
            continue
        entries = entry.find("ul", recursive=False)
        if entries is None:
            entries = soup.new_tag("ul")
            entry.append(entries)
        link = soup.new_tag("a", href=f"#{exercise['ids'][0]}")
        link["class"] = "reference internal"
        link.string = exercise.next_node(nodes.title).astext()
        item = soup.new_tag("li")
        item["class"] = "toc-exercise"
        item.append(link)
        entries.insert(_place(section, exercise, entries), item)
    return str(soup)


def _entry(soup: BeautifulSoup, section: nodes.section) -> Tag | None:
    """The list item of a section; the page's first section is linked to as ``#``."""
    is_page = isinstance(section.parent, nodes.document)
    names = {"#"} if is_page else {f"#{name}" for name in section["ids"]}
    link = soup.find("a", href=lambda href: href in names)
    return link.find_parent("li") if link else None


def _place(section: nodes.section, exercise: nodes.admonition, entries: Tag) -> int:
    """Where among ``entries`` the exercise belongs: after what precedes it in its section."""
    before = 0
    for node in section.findall():
        if node is exercise:
            break
        stands_here = isinstance(node, nodes.section) or is_exercise(node)
        before += node is not section and stands_here and _section_of(node) is section
    items = entries.find_all("li", recursive=False)
    return entries.index(items[before]) if before < len(items) else len(entries.contents)
