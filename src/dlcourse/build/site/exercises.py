"""``{exercise}`` and ``{solution}``: boxes that are called by an exercise's key."""

from __future__ import annotations

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

EXERCISE = "exercise"  # the class of an exercise's box


class Box(SphinxDirective):
    """Base: an admonition whose title is one word, and then the argument."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {"label": directives.unchanged_required, "class": directives.class_option}
    word: str
    classes: tuple[str, ...]

    def run(self) -> list[nodes.Node]:
        """The box, which ``label`` names for references."""
        box = nodes.admonition(classes=[*self.classes, *self.options.get("class", [])])
        self.set_source_info(box)
        text, messages = self.state.inline_text(f"{self.word} {self.arguments[0]}", self.lineno)
        box += nodes.title("", "", *text)
        self.state.nested_parse(self.content, self.content_offset, box)
        if label := self.options.get("label"):
            box["names"].append(nodes.fully_normalize_name(label))
            self.state.document.note_explicit_target(box, box)
        return [box, *messages]


class Exercise(Box):
    """``{exercise} 119.2.lion: One step of Lion``: its statement."""

    word, classes = "Exercise", (EXERCISE,)


class Solution(Box):
    """``{solution} 119.2.lion``: folded until it is asked for."""

    word, classes = "Solution of", ("solution", "dropdown")
