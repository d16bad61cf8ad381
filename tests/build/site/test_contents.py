"""Exercises stand in a page's contents list, among the subsections of their section."""

from __future__ import annotations

from bs4 import BeautifulSoup
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.utils import new_document

from dlcourse.build.site.contents import with_exercises

CONTENTS = """<ul>
<li><a class="reference internal" href="#">Page</a><ul>
<li><a class="reference internal" href="#idea">Idea</a><ul>
<li><a class="reference internal" href="#part">Part</a></li>
</ul></li>
<li><a class="reference internal" href="#limits">Limits</a></li>
</ul></li>
</ul>"""


def section(name: str, *children: nodes.Node) -> nodes.section:
    return nodes.section("", nodes.title(text=name), *children, ids=[name.lower()])


def exercise(name: str) -> nodes.admonition:
    title = nodes.title(text=f"Exercise {name}")
    return nodes.admonition("", title, classes=["exercise"], ids=[f"ex-{name}"])


def page(*sections: nodes.Node) -> nodes.document:
    document = new_document("page", get_default_settings())
    document += section("Page", *sections)
    return document


def outline(contents: str) -> list[tuple[int, str]]:
    soup = BeautifulSoup(contents, "html.parser")
    return [(len(link.find_parents("ul")), link.get_text()) for link in soup.find_all("a")]


def test_exercises_stand_where_the_page_has_them():
    doctree = page(
        section("Idea", exercise("a"), section("Part", exercise("b")), exercise("c")),
        section("Limits", exercise("d")),
    )
    assert outline(with_exercises(CONTENTS, doctree)) == [
        (1, "Page"),
        (2, "Idea"),
        (3, "Exercise a"),
        (3, "Part"),
        (4, "Exercise b"),
        (3, "Exercise c"),
        (2, "Limits"),
        (3, "Exercise d"),
    ]


def test_an_exercise_before_the_first_section_comes_first():
    doctree = page(exercise("a"), section("Idea", section("Part")), section("Limits"))
    assert outline(with_exercises(CONTENTS, doctree))[1] == (2, "Exercise a")


def test_other_boxes_are_not_listed():
    hint = nodes.admonition("", nodes.title(text="Hint"), classes=["hint"], ids=["hint"])
    assert with_exercises(CONTENTS, page(section("Idea", hint))) == CONTENTS
