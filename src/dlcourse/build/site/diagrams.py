"""``{diagram}``: a hand-written SVG drawing that lies in the page and follows its colors."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives

from dlcourse.build.drawings import DiagramError, inline
from dlcourse.build.site.directives import CourseDirective, raw_html


class Diagram(CourseDirective):
    """``{diagram} figures/2_optimizers.svg``: the path is relative to the page's folder."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {"alt": directives.unchanged, "name": directives.unchanged_required}

    def build(self) -> list[nodes.Node]:
        path = Path(self.env.docname).parent / self.arguments[0]
        alt = " ".join(self.options.get("alt", "").split())
        if not alt:
            raise DiagramError(f"{path} needs an :alt: that tells what it shows")
        if not self.content:
            raise DiagramError(f"{path} needs a caption that says what to see")
        name = self.options.get("name") or f"fig-{path.stem}"
        figure = nodes.figure(classes=["diagram"])
        figure += raw_html(inline(self.read(path), alt, name))
        caption = nodes.caption()
        inlined, messages = self.state.inline_text(" ".join(self.content), self.lineno)
        caption += inlined
        figure += caption
        self.set_source_info(figure)
        figure["names"].append(nodes.fully_normalize_name(name))
        self.state.document.note_explicit_target(figure, figure)
        return [figure, *messages]
