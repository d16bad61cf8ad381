"""Drawings follow the page's colors, can be read aloud, and are refused where they could not."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dlcourse.build.drawings import DiagramError, inline, markdown_image, standalone

ROOT = Path(__file__).resolve().parents[3]
DRAWINGS = sorted(ROOT.glob("chapters/*/figures/*.svg"))
SMALL = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 50">
<rect class="box" id="first" x="0" y="0" width="40" height="20"/>
<path class="arrow" d="M40 10 H60"/></svg>"""


def test_a_drawing_in_a_page_is_an_image_with_its_text():
    root = ElementTree.fromstring(inline(SMALL, 'says "this" & that', "fig-small"))
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'says "this" & that'


def test_arrows_have_heads_and_names_are_those_of_the_figure():
    markup = inline(SMALL, "text", "fig-small")
    assert 'marker-end="url(#fig-small-head)"' in markup
    assert re.findall(r'\bid="([^"]+)"', markup) == ["fig-small-head", "fig-small-first"]


def test_a_drawing_alone_brings_its_style():
    root = ElementTree.fromstring(standalone(SMALL))
    assert (root.get("width"), root.get("height")) == ("100", "50")
    style = root.find("{http://www.w3.org/2000/svg}style").text
    for name in ("box", "data", "focus", "hidden", "arrow", "note", "strong"):
        assert f".{name}" in style


def test_a_notebook_gets_an_image_that_carries_the_drawing():
    head, _, data = markdown_image(SMALL, "text").removesuffix(")").partition(",")
    assert head == "![text](data:image/svg+xml;base64"
    assert base64.b64decode(data).decode("utf8") == standalone(SMALL)


@pytest.mark.parametrize(
    "change, complaint",
    [
        (("</svg>", ""), "not an SVG"),
        (('viewBox="0 0 100 50"', ""), "viewBox"),
        (('viewBox="0 0 100 50"', 'viewBox="0 0 900 50"'), "may be 600"),
        (('class="box"', 'fill="#ff0000"'), "colors come from the classes"),
        (('class="box"', 'style="fill: red"'), "colors come from the classes"),
        (("</svg>", "<script/></svg>"), "<script>"),
        (("</svg>", '<image href="https://example.org/x.png"/></svg>'), "<image>"),
    ],
)
def test_what_is_refused(change, complaint):
    with pytest.raises(DiagramError, match=re.escape(complaint)):
        inline(SMALL.replace(*change), "text", "fig-small")


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.name)
def test_every_drawing_of_the_course_is_accepted(path):
    text = path.read_text(encoding="utf-8")
    assert inline(text, "text", "fig").startswith("<svg")
    style = (ROOT / "book/static/course.css").read_text(encoding="utf-8")
    classes = {name for names in re.findall(r'class="([^"]+)"', text) for name in names.split()}
    assert not [name for name in classes if f"figure.diagram .{name}" not in style]


def test_the_course_has_drawings():
    assert len(DRAWINGS) >= 2  # so that the test above cannot pass on none
