"""``quiz``: the questions of a section, live in a kernel and on the static page."""

from __future__ import annotations

import html
import os
import re

from dlcourse.exercises import progress
from dlcourse.exercises.model import Choice, Question, Quiz
from dlcourse.exercises.registry import find_quiz
from dlcourse.notebook.prose import show

#: In a notebook's own output: which questions were answered, and right, for whoever grades it.
RECORD_MIME = "application/vnd.dlcourse.quiz+json"

# Shown by the state of the radio button alone: no script is needed to answer.
_STYLE = """\
<style>
.dlc-quiz fieldset { border: 1px solid currentColor; border-radius: 0.4em; margin: 0 0 1em; }
.dlc-quiz legend { font-weight: 600; padding: 0 0.4em; }
.dlc-quiz .choice { margin: 0.4em 0; }
.dlc-quiz label { display: inline; cursor: pointer; }
.dlc-quiz .reply { display: none; margin: 0.2em 0 0.4em 1.8em; }
.dlc-quiz input:checked ~ .reply { display: block; }
.dlc-quiz .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }
</style>"""

# What a script adds: a screen reader hears the reply when a choice is made.
_SCRIPT = """\
<script>
(function () {
  var quiz = document.currentScript.closest(".dlc-quiz");
  quiz.addEventListener("change", function (event) {
    var reply = event.target.closest(".choice").querySelector(".reply");
    event.target.closest("fieldset").querySelector(".unseen").textContent = reply.textContent;
  });
})();
</script>"""


def quiz(key: str) -> None:
    """Show the quiz of a section, such as ``quiz("119.2")``.

    In a kernel with ipywidgets the answers are recorded in the learner's progress, and in the
    cell's own output, so that a saved notebook shows them; in a headless run
    (``DLCOURSE_STATIC=1``) the page gets the same questions as plain HTML.

    Raises:
        RegistryError: the section has no quiz.
    """
    found = find_quiz(key)
    if os.environ.get("DLCOURSE_STATIC") != "1" and _has_widgets():
        from IPython.display import display

        record = Record(found)
        display(live_quiz(found, record))
        record.handle = display(record.bundle(), raw=True, display_id=True)
    else:
        show({"text/html": quiz_html(found), "text/plain": quiz_text(found)})


class Record:
    """The answers to one quiz, as a line below it that is saved with the notebook."""

    def __init__(self, found: Quiz) -> None:
        self._quiz = found
        self.handle = None  # of the line that is shown
        known = progress.load()["quizzes"].get(found.key, {}) if progress.recording() else {}
        names = {question.name for question in found.questions}
        self._right = {name: known[name]["right"] for name in names & known.keys()}

    def answered(self, question: str, right: bool) -> None:
        """Take up an answer: in the learner's progress, and in the line."""
        self._right[question] = right
        progress.record_quiz(self._quiz.key, question, right=right)
        if self.handle is not None:
            self.handle.update(self.bundle(), raw=True)

    def bundle(self) -> dict[str, object]:
        """The line, and the answers for a machine."""
        total = len(self._quiz.questions)
        said = f"{len(self._right)} of {total} answered, {sum(self._right.values())} right"
        answers = {name: {"right": right} for name, right in sorted(self._right.items())}
        return {
            "text/plain": f"Quiz {self._quiz.key}: {said}.",
            RECORD_MIME: {"key": self._quiz.key, "answers": answers},
        }


def _has_widgets() -> bool:
    try:
        import ipywidgets  # noqa: F401
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def reply_text(choice: Choice) -> str:
    """The reply to a choice, beginning with whether it is right."""
    return ("✓ Right. " if choice.right else "✗ No. ") + choice.reply


def quiz_html(found: Quiz) -> str:
    """The quiz as HTML that works without kernel, network and script, by mouse and keyboard."""
    name = "quiz-" + found.key.replace(".", "-")
    fieldsets = "\n".join(
        _fieldset(question, f"{name}-{number}", number)
        for number, question in enumerate(found.questions, start=1)
    )
    return f'<div class="dlc-quiz" id="{name}">\n{_STYLE}\n{fieldsets}\n{_SCRIPT}\n</div>'


def _fieldset(question: Question, name: str, number: int) -> str:
    choices = "\n".join(
        f'<div class="choice"><input type="radio" name="{name}" id="{name}-{i}">\n'
        f'<label for="{name}-{i}">{_inline(choice.text)}</label>\n'
        f'<div class="reply">{_inline(reply_text(choice))}</div></div>'
        for i, choice in enumerate(question.choices)
    )
    return (
        f"<fieldset><legend>{number}. {_inline(question.text)}</legend>\n{choices}\n"
        '<p class="unseen" role="status" aria-live="polite"></p></fieldset>'
    )


def _inline(text: str) -> str:
    """Escaped text in which ``backticks`` mark code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def quiz_text(found: Quiz) -> str:
    """The questions and choices as plain text."""
    lines = []
    for number, question in enumerate(found.questions, start=1):
        lines.append(f"{number}. {question.text}")
        lines += [f"   ( ) {choice.text}" for choice in question.choices]
    return "\n".join(lines)


def live_quiz(found: Quiz, record: Record | None = None):
    """The quiz as ipywidgets, which record each answer."""
    import ipywidgets as widgets

    record = record or Record(found)

    style = widgets.HTML(
        "<style>.dlc-live .widget-radio-box label { white-space: normal; height: auto; "
        "line-height: 1.5; margin: 2px 0; width: auto; max-width: none }</style>"
    )
    questions = [
        _live_question(record, question, number)
        for number, question in enumerate(found.questions, start=1)
    ]
    box = widgets.VBox([style, *questions])
    box.add_class("dlc-live")
    return box


def _live_question(record: Record, question: Question, number: int):
    import ipywidgets as widgets

    options = [choice.text.replace("`", "") for choice in question.choices]
    radio = widgets.RadioButtons(options=options, value=None, layout={"width": "100%"})
    reply = widgets.HTML()

    def answered(change) -> None:
        if radio.index is None:
            return
        choice = question.choices[radio.index]
        reply.value = f'<p role="status" aria-live="polite">{_inline(reply_text(choice))}</p>'
        record.answered(question.name, choice.right)

    radio.observe(answered, names="index")
    return widgets.VBox([widgets.HTML(f"<b>{number}. {_inline(question.text)}</b>"), radio, reply])
