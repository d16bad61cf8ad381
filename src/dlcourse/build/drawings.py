"""Drawings: hand-written SVG for the pages and for the learner's notebooks.

A drawing uses the classes of ``course.css`` (``box``, ``data``, ``focus``, ``arrow``, ``note``, …)
and no colors of its own, so that it is readable in light and dark. A path or line of the class
``arrow`` gets its head here.
"""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

SVG = "http://www.w3.org/2000/svg"
WIDEST = 600  # units; text of 16 units is then readable on a screen of 390 pixels
ElementTree.register_namespace("", SVG)
_ALLOWED = {"svg", "g", "path", "line", "rect", "circle", "ellipse", "polygon", "polyline", "text"}
_ALLOWED |= {"tspan", "defs", "marker", "use", "title", "desc", "clipPath"}
_HEAD = '<path d="M0 0 8 4 0 8z"/>'
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
#: For drawings outside of the site: the classes of course.css, with colors for a white ground.
STYLE = """\
svg { font: 16px system-ui, sans-serif; color: #1f2328; background: #fff; }
text { fill: currentColor; } .note { fill: #59636e; } .middle { text-anchor: middle; }
.strong { font-weight: 600; } .math { font-style: italic; font-family: serif; }
.end { text-anchor: end; }
.box, .data, .focus { fill: #f6f8fa; stroke: #59636e; stroke-width: 1.5; }
.data { fill: #ddf4ff; stroke: #0969da; } .focus { fill: #fff1e5; stroke: #bc4c00; }
.hidden { fill: #d1d9e0; stroke: #59636e; stroke-width: 1.5; stroke-dasharray: 4 3; }
.arrow { fill: none; stroke: #59636e; stroke-width: 2; } .dashed { stroke-dasharray: 5 4; }
.arrow-line { fill: none; stroke: #59636e; stroke-width: 1.5; }
.arrow-head { fill: #59636e; }
"""


class DiagramError(ValueError):
    """A drawing, or what a page says about it, is not as it must be."""


def _parse(text: str) -> ElementTree.Element:
    """The drawing, checked: a viewBox, no wider than a telephone can show, nothing foreign."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DiagramError(f"not an SVG drawing: {error}") from None
    box = root.get("viewBox", "").split()
    if root.tag != f"{{{SVG}}}svg" or len(box) != 4:
        raise DiagramError(f'a drawing is <svg xmlns="{SVG}" viewBox="0 0 width height">')
    if float(box[2]) > WIDEST:
        raise DiagramError(f"the drawing is {box[2]} wide and may be {WIDEST}; put parts below")
    for element in root.iter():
        tag = element.tag.removeprefix(f"{{{SVG}}}") if isinstance(element.tag, str) else ""
        if tag and tag not in _ALLOWED:
            raise DiagramError(f"<{tag}> has no place in a drawing of this course")
        for attribute, value in element.attrib.items():
            if attribute in ("fill", "stroke", "style") and value != "none":
                raise DiagramError(f'{attribute}="{value}": colors come from the classes')
    return root


def _with_heads(root: ElementTree.Element, prefix: str) -> None:
    """Give the arrows their heads, and make all names unique in the page by ``prefix``."""
    for element in root.iter():
        if "arrow" in element.get("class", "").split():
            element.set("marker-end", "url(#head)")
    defs = ElementTree.Element(f"{{{SVG}}}defs")
    marker = ElementTree.SubElement(defs, f"{{{SVG}}}marker", {"id": "head", "class": "arrow-head"})
    size = {"viewBox": "0 0 8 8", "refX": "7", "refY": "4", "markerWidth": "6", "markerHeight": "6"}
    for attribute, value in (size | {"orient": "auto-start-reverse"}).items():
        marker.set(attribute, value)
    marker.append(ElementTree.fromstring(_HEAD.replace("<path", f'<path xmlns="{SVG}"')))
    root.insert(0, defs)
    for element in root.iter():
        for attribute, value in element.attrib.items():
            if attribute == "id":
                element.set(attribute, f"{prefix}-{value}")
            elif attribute == "href" and value.startswith("#"):
                element.set(attribute, f"#{prefix}-{value[1:]}")
            else:
                element.set(attribute, _REFERENCE.sub(rf"url(#{prefix}-\1)", value))


def inline(text: str, alt: str, name: str) -> str:
    """The drawing as HTML for a page.

    Args:
        text: the SVG file.
        alt: what it shows, for those who do not see it.
        name: the figure's label, from which names within the drawing are made.

    Raises DiagramError when the file is no drawing that follows the page's colors.
    """
    root = _parse(text)
    _with_heads(root, name)
    root.set("role", "img")
    root.set("aria-label", alt)
    return ElementTree.tostring(root, encoding="unicode")


def standalone(text: str) -> str:
    """The drawing as an SVG file of its own, on white.

    Raises DiagramError as ``inline``.
    """
    root = _parse(text)
    _with_heads(root, "diagram")
    _, _, width, height = root.get("viewBox", "").split()
    root.set("width", width)
    root.set("height", height)
    style = ElementTree.Element(f"{{{SVG}}}style")
    style.text = STYLE
    root.insert(0, style)
    return ElementTree.tostring(root, encoding="unicode")


def markdown_image(text: str, alt: str) -> str:
    """The drawing as a Markdown image that carries it, for a notebook.

    JupyterLab shows an SVG so, and does not show one that is attached to a cell.

    Raises DiagramError as ``inline``.
    """
    data = base64.b64encode(standalone(text).encode("utf8")).decode("ascii")
    return f"![{alt}](data:image/svg+xml;base64,{data})"
