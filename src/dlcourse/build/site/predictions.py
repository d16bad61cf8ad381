"""``{prediction}``: a form that takes a prediction on the page itself, where there is no kernel.

The right answer is that of the exercise's own experiment, run when the page is made. The solution
stands folded below the form, so the page has no secret to keep. ``course.js`` compares, as
``Prediction.accepts`` does.
"""

from __future__ import annotations

import html
import json
import re

from docutils import nodes

from dlcourse.build.site.directives import CourseDirective, raw_html
from dlcourse.exercises.model import Prediction
from dlcourse.exercises.registry import find_exercise


class PredictionForm(CourseDirective):
    """``{prediction} 119.2.predict-beta``: a number to write, or a choice to make."""

    required_arguments = 1

    def build(self) -> list[nodes.Node]:
        exercise = find_exercise(self.arguments[0])
        if not isinstance(exercise, Prediction):
            raise ValueError(f"{exercise.key} is no prediction")
        return [raw_html(form(exercise, exercise.experiment()))]


def form(exercise: Prediction, right: float | str) -> str:
    """The form as HTML; what the script compares with lies in its attribute ``data-prediction``."""
    name = "predict-" + exercise.key.replace(".", "-")
    data = {
        "right": right,
        "rtol": exercise.rtol,
        "atol": exercise.atol,
        "hints": [_inline(hint) for hint in exercise.hints],
        "mistakes": [[m.answer, _inline(m.hint)] for m in exercise.mistakes.values()],
    }
    fields = _choices(exercise, name) if exercise.choices else _number(name)
    attribute = html.escape(json.dumps(data, ensure_ascii=False))
    return (
        f'<form class="prediction" id="{name}" data-prediction="{attribute}">\n{fields}\n'
        '<div class="reply" role="status" aria-live="polite"></div>\n</form>'
    )


def _number(name: str) -> str:
    return (
        f'<label for="{name}-answer">Your prediction</label>\n'
        f'<input type="text" id="{name}-answer" name="answer" inputmode="decimal" size="12" '
        'autocomplete="off" required>\n<button type="submit">Check</button>'
    )


def _choices(exercise: Prediction, name: str) -> str:
    radios = "\n".join(
        f'<div class="choice"><input type="radio" name="answer" id="{name}-{i}" '
        f'value="{html.escape(choice)}" required>\n'
        f'<label for="{name}-{i}">{_inline(choice)}</label></div>'
        for i, choice in enumerate(exercise.choices)
    )
    return (
        f"<fieldset><legend>Your prediction</legend>\n{radios}\n</fieldset>\n"
        '<button type="submit">Check</button>'
    )


def _inline(text: str) -> str:
    """Escaped text in which ``backticks`` mark code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
